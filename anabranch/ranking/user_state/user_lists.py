"""The lists of users, of any length: copied out of their blocks, written to blocks, and freed. Compiled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.jit import compiled
from anabranch.ranking.types import Mask, Rows, Seconds, Slots
from anabranch.ranking.user_state.block_pool import (
    BLOCK_SIZE,
    NO_BLOCK,
    HistoryBlocks,
    LongTermBlocks,
    allocate,
    free,
)
from anabranch.ranking.user_state.columns import ActivityColumns
from anabranch.ranking.user_state.layout import StateLayout


class UserMemory(NamedTuple):
    """All that compiled functions read and change of user states."""

    columns: ActivityColumns
    history: HistoryBlocks
    long_term: LongTermBlocks


class LongTermLists(NamedTuple):
    """The long-term items of n users side by side, see `LongTermBlocks`."""

    item: Rows
    """[n, M] -1 padded"""
    log2_decayed_count: NDArray[np.float32]
    """[n, M]"""
    event_count: NDArray[np.float32]
    """[n, M]"""
    first_s: Seconds
    """[n, M]"""
    last_s: Seconds
    """[n, M]"""

    @classmethod
    def uninitialised(cls, n: int, size: int) -> LongTermLists:
        """Lists of n users, whose entries are undefined: memory that nothing is written to costs no time."""
        return cls(
            item=np.empty((n, size), np.int32),
            log2_decayed_count=np.empty((n, size), np.float32),
            event_count=np.empty((n, size), np.float32),
            first_s=np.empty((n, size), np.uint32),
            last_s=np.empty((n, size), np.uint32),
        )

    @classmethod
    def empty(cls, n: int, size: int) -> LongTermLists:
        """Lists of n users, without any entries."""
        return cls(
            item=np.full((n, size), -1, np.int32),
            log2_decayed_count=np.full((n, size), -np.inf, np.float32),
            event_count=np.zeros((n, size), np.float32),
            first_s=np.zeros((n, size), np.uint32),
            last_s=np.zeros((n, size), np.uint32),
        )


class UserLists(NamedTuple):
    """The lists of n users side by side."""

    history_item: Rows
    """[n, H] by index in the ring; entry `event_count % H` is written next"""
    history_type: NDArray[np.uint8]
    """[n, H]"""
    history_s: Seconds
    """[n, H]"""
    long_term: LongTermLists
    """[n, M]"""

    @classmethod
    def empty(cls, n: int, layout: StateLayout) -> UserLists:
        """Lists of n users, without any entries."""
        return cls(
            history_item=np.full((n, layout.history), -1, np.int32),
            history_type=np.zeros((n, layout.history), np.uint8),
            history_s=np.zeros((n, layout.history), np.uint32),
            long_term=LongTermLists.empty(n, layout.long_term_items),
        )


def ring_indices(count: NDArray[np.int64], size: int) -> tuple[Mask, NDArray[np.int64]]:
    """Of rings of `size` entries to which `count` [B] have been written: which of [B, size] hold one, oldest first, and
    the index of each in its ring."""
    filled = np.minimum(count, size)[:, None]
    nth = np.arange(size)
    return nth < filled, (count[:, None] - filled + nth) % size


@compiled
def read_lists(memory: UserMemory, slots: Slots, lists: UserLists) -> None:
    """Copy the lists of the users in slots [n] to `lists`."""
    columns, history, length = memory.columns, memory.history, lists.history_item.shape[1]
    for n in range(len(slots)):
        slot = slots[n]
        block = columns.history_block[slot]
        for index in range(min(columns.event_count[slot], length)):
            entry = index % BLOCK_SIZE
            if index > 0 and entry == 0:
                block = history.next_block[block]
            lists.history_item[n, index] = history.item[block, entry]
            lists.history_type[n, index] = history.type[block, entry]
            lists.history_s[n, index] = history.second[block, entry]
        read_long_term(memory, slot, n, lists.long_term)


@compiled
def read_long_term(memory: UserMemory, slot: int, row: int, lists: LongTermLists) -> None:
    """Copy the long-term items of the user in a slot to a row of `lists`."""
    long_term, block = memory.long_term, memory.columns.long_term_block[slot]
    for index in range(memory.columns.long_term_size[slot]):
        entry = index % BLOCK_SIZE
        if index > 0 and entry == 0:
            block = long_term.next_block[block]
        lists.item[row, index] = long_term.item[block, entry]
        lists.log2_decayed_count[row, index] = long_term.log2_decayed_count[block, entry]
        lists.event_count[row, index] = long_term.event_count[block, entry]
        lists.first_s[row, index] = long_term.first_s[block, entry]
        lists.last_s[row, index] = long_term.last_s[block, entry]


@compiled
def write_lists(memory: UserMemory, slots: Slots, lists: UserLists) -> None:
    """Write the lists of the users in slots [n] to new blocks. Their columns have the sizes of the lists already."""
    columns, history, length = memory.columns, memory.history, lists.history_item.shape[1]
    for n in range(len(slots)):
        slot, block = slots[n], NO_BLOCK
        for index in range(min(columns.event_count[slot], length)):
            entry = index % BLOCK_SIZE
            if entry == 0:
                block = allocate(history.next_block, history.free_list, block)
                if index == 0:
                    columns.history_block[slot] = block
            history.item[block, entry] = lists.history_item[n, index]
            history.type[block, entry] = lists.history_type[n, index]
            history.second[block, entry] = lists.history_s[n, index]
        _write_long_term(memory, slot, n, lists.long_term)


@compiled
def _write_long_term(memory: UserMemory, slot: int, row: int, lists: LongTermLists) -> None:
    columns, long_term, block = memory.columns, memory.long_term, NO_BLOCK
    for index in range(columns.long_term_size[slot]):
        entry = index % BLOCK_SIZE
        if entry == 0:
            block = allocate(long_term.next_block, long_term.free_list, block)
            if index == 0:
                columns.long_term_block[slot] = block
        long_term.item[block, entry] = lists.item[row, index]
        long_term.log2_decayed_count[block, entry] = lists.log2_decayed_count[row, index]
        long_term.event_count[block, entry] = lists.event_count[row, index]
        long_term.first_s[block, entry] = lists.first_s[row, index]
        long_term.last_s[block, entry] = lists.last_s[row, index]


@compiled
def free_lists(memory: UserMemory, slots: Slots) -> None:
    """Free the blocks of the users in slots [n]."""
    columns, history, long_term = memory.columns, memory.history, memory.long_term
    for n in range(len(slots)):
        slot = slots[n]
        free(history.next_block, history.free_list, columns.history_block[slot])
        free(long_term.next_block, long_term.free_list, columns.long_term_block[slot])
        columns.history_block[slot] = columns.long_term_block[slot] = NO_BLOCK
