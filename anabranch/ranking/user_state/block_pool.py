"""Blocks from pools that all users share, so that a user with few events takes little memory.

A user's list is a chain of blocks of `BLOCK_SIZE` entries. Blocks that are freed form a chain too, the free list, from
which blocks are allocated first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.jit import compiled
from anabranch.ranking.types import Rows, Seconds

BLOCK_SIZE = 8
"""Entries of a block."""
NO_BLOCK = -1

Blocks = NDArray[np.int32]
"""Indices of blocks in a pool, or NO_BLOCK."""
FreeList = NDArray[np.int64]
"""[2] the first free block, or NO_BLOCK, and the number of blocks that were ever allocated."""


class HistoryBlocks(NamedTuple):
    """P blocks of the newest events about items, a ring per user."""

    next_block: Blocks
    """[P] the next block of the same chain, NO_BLOCK after the last"""
    free_list: FreeList
    item: Rows
    """[P, BLOCK_SIZE]"""
    type: NDArray[np.uint8]
    """[P, BLOCK_SIZE] by `EVENT_TYPES`, as encoders read them"""
    second: Seconds
    """[P, BLOCK_SIZE]"""


class LongTermBlocks(NamedTuple):
    """P blocks of users' long-term items, an entry per item."""

    next_block: Blocks
    """[P] the next block of the same chain, NO_BLOCK after the last"""
    free_list: FreeList
    item: Rows
    """[P, BLOCK_SIZE]"""
    log2_decayed_count: NDArray[np.float32]
    """[P, BLOCK_SIZE] a forward decay (Cormode et al., Forward Decay: A Practical Time Decay Model for Streaming
    Systems, ICDE 2009), which needs no update as time passes: the decayed count at time t is
    2 ** (log2_decayed_count - t / half-life)."""
    event_count: NDArray[np.float32]
    """[P, BLOCK_SIZE] number of events"""
    first_s: Seconds
    """[P, BLOCK_SIZE] time of the first event"""
    last_s: Seconds
    """[P, BLOCK_SIZE] and of the last"""


Pool = TypeVar("Pool", HistoryBlocks, LongTermBlocks)
Entries = TypeVar("Entries", int, NDArray[np.int64])


def history_pool(blocks: int) -> HistoryBlocks:
    """A pool with no block allocated. Zeros take no memory until they are written."""
    shape = (blocks, BLOCK_SIZE)
    return HistoryBlocks(
        next_block=np.zeros(blocks, np.int32),
        free_list=_empty_free_list(),
        item=np.zeros(shape, np.int32),
        type=np.zeros(shape, np.uint8),
        second=np.zeros(shape, np.uint32),
    )


def long_term_pool(blocks: int) -> LongTermBlocks:
    """A pool with no block allocated. Zeros take no memory until they are written."""
    shape = (blocks, BLOCK_SIZE)
    return LongTermBlocks(
        next_block=np.zeros(blocks, np.int32),
        free_list=_empty_free_list(),
        item=np.zeros(shape, np.int32),
        log2_decayed_count=np.zeros(shape, np.float32),
        event_count=np.zeros(shape, np.float32),
        first_s=np.zeros(shape, np.uint32),
        last_s=np.zeros(shape, np.uint32),
    )


def copy_pool(pool: Pool, larger: Pool) -> Pool:
    """Copy all blocks to a larger pool, and return that."""
    columns: zip[tuple[NDArray[Any], NDArray[Any]]] = zip(pool, larger, strict=True)
    for old, new in columns:
        new[: len(old)] = old
    return larger


def blocks_for(entries: Entries) -> Entries:
    """Number of blocks that a list of so many entries takes, or that lists of these lengths [n] take each."""
    return -(-entries // BLOCK_SIZE)


def block_bytes(pool: HistoryBlocks | LongTermBlocks) -> int:
    """Bytes of one block."""
    columns: Iterable[NDArray[Any]] = pool
    return sum(column[:1].nbytes for column in columns if column is not pool.free_list)


def allocated_bytes(pool: HistoryBlocks | LongTermBlocks) -> int:
    """Bytes of all blocks that were ever allocated."""
    return int(pool.free_list[1]) * block_bytes(pool)


def list_bytes(history: NDArray[np.int64], long_term_items: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bytes [n] of the blocks of users with histories and long-term items of these lengths [n]."""
    history_bytes, long_term_bytes = block_bytes(history_pool(1)), block_bytes(long_term_pool(1))
    return blocks_for(history) * history_bytes + blocks_for(long_term_items) * long_term_bytes


@compiled
def allocate(next_block: Blocks, free_list: FreeList, previous: int) -> int:
    """Allocate a block and return it. It comes after the block `previous` of its chain, unless that is NO_BLOCK."""
    block = int(free_list[0])
    if block != NO_BLOCK:
        free_list[0] = next_block[block]
    else:
        block = int(free_list[1])
        free_list[1] += 1
    next_block[block] = NO_BLOCK
    if previous != NO_BLOCK:
        next_block[previous] = block
    return block


@compiled
def free(next_block: Blocks, free_list: FreeList, first: int) -> None:
    """Free the chain that starts with the block `first`, if that is not NO_BLOCK."""
    if first != NO_BLOCK:
        last = first
        while next_block[last] != NO_BLOCK:
            last = next_block[last]
        next_block[last] = free_list[0]
        free_list[0] = first


def _empty_free_list() -> FreeList:
    return np.array((NO_BLOCK, 0), np.int64)
