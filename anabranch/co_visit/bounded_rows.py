"""Rows of sparse counts in shared arrays: short rows take little memory, and long ones keep their strongest entries.

A row is a block of the arrays by entry. When it is full, it moves to a block twice as large; the blocks that rows have
left form a list for each size, from which blocks are allocated first.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.jit import compiled

SMALLEST_ROOM = 8
"""Entries of the smallest block."""
SIZES = 32
"""Sizes of blocks: powers of two."""
NO_BLOCK = -1


Scalar = TypeVar("Scalar", bound=np.generic)


class BoundedRows(NamedTuple):
    """R rows, and E entries of which all rows together may have as many."""

    start: NDArray[np.int64]
    """[R] index of a row's first entry"""
    length: NDArray[np.int32]
    """[R] entries of a row"""
    room: NDArray[np.int32]
    """[R] entries of a row's block; 0: it has none yet"""
    keys: NDArray[np.int32]
    """[E] what an entry counts, distinct within a row; in a free block the first has the start of the next one"""
    counts: NDArray[np.float64]
    """[E]"""
    bits: NDArray[np.uint64]
    """[E] what else is known of an entry"""
    free: NDArray[np.int64]
    """[SIZES] start of the first free block of each size, or NO_BLOCK"""
    used: NDArray[np.int64]
    """[1] entries of all blocks that were ever allocated"""


def empty_rows() -> BoundedRows:
    """No rows."""
    return BoundedRows(
        start=np.zeros(0, np.int64),
        length=np.zeros(0, np.int32),
        room=np.zeros(0, np.int32),
        keys=np.zeros(0, np.int32),
        counts=np.zeros(0, np.float64),
        bits=np.zeros(0, np.uint64),
        free=np.full(SIZES, NO_BLOCK, np.int64),
        used=np.zeros(1, np.int64),
    )


def with_room(rows: BoundedRows, count: int, entries: int) -> BoundedRows:
    """The same with at least `count` rows, and `entries` entries that no block has."""
    if count > len(rows.start):
        length = max(count, 2 * len(rows.start))
        rows = rows._replace(
            start=lengthened(rows.start, length),
            length=lengthened(rows.length, length),
            room=lengthened(rows.room, length),
        )
    needed = int(rows.used[0]) + entries
    if needed > len(rows.keys):
        length = max(needed, 2 * len(rows.keys))
        rows = rows._replace(
            keys=lengthened(rows.keys, length),
            counts=lengthened(rows.counts, length),
            bits=lengthened(rows.bits, length),
        )
    return rows


def lengthened(column: NDArray[Scalar], length: int) -> NDArray[Scalar]:
    """A column [n] with `length` entries, the new ones 0."""
    longer = np.zeros(length, column.dtype)
    longer[: len(column)] = column
    return longer


def room_of(length: int) -> int:
    """The size of the block of a row with `length` entries."""
    return max(SMALLEST_ROOM, 1 << (length - 1).bit_length())


@compiled
def find(rows: BoundedRows, row: int, key: int) -> int:
    """The index of a row's entry, -1 if it has none."""
    start = rows.start[row]
    for index in range(start, start + rows.length[row]):
        if rows.keys[index] == key:
            return index
    return -1


@compiled
def insert(rows: BoundedRows, row: int, key: int) -> int:
    """The index of a new entry of a row, with the count 0. There must be room for a block twice as large as its own."""
    if rows.length[row] == rows.room[row]:
        _move(rows, row)
    index: int = rows.start[row] + rows.length[row]
    rows.length[row] += 1
    rows.keys[index] = key
    rows.counts[index] = 0.0
    rows.bits[index] = 0
    return index


@compiled
def _move(rows: BoundedRows, row: int) -> None:
    """Move a row to a block twice as large, or give it its first one."""
    before, room = rows.start[row], rows.room[row]
    larger = max(SMALLEST_ROOM, 2 * room)
    size = _log2(larger)
    start = rows.free[size]
    if start == NO_BLOCK:
        start = rows.used[0]
        rows.used[0] += larger
    else:
        rows.free[size] = rows.keys[start]
    for n in range(rows.length[row]):
        rows.keys[start + n] = rows.keys[before + n]
        rows.counts[start + n] = rows.counts[before + n]
        rows.bits[start + n] = rows.bits[before + n]
    if room:
        rows.keys[before] = rows.free[_log2(room)]
        rows.free[_log2(room)] = before
    rows.start[row], rows.room[row] = start, larger


@compiled
def _log2(power: int) -> int:
    exponent = 0
    while 1 << exponent < power:
        exponent += 1
    return exponent


@compiled
def prune(rows: BoundedRows, row: int, n: int) -> None:
    """Keep the n entries of a row with the largest counts; of equal ones those with the lower keys."""
    start, length = rows.start[row], rows.length[row]
    if n >= length:
        return
    least = np.sort(rows.counts[start : start + length])[length - n]
    spare = n  # of the entries that count as much as the last one, so many are kept
    for index in range(start, start + length):
        spare -= rows.counts[index] > least
    highest = -1
    for _ in range(spare):
        highest = _next_key(rows, row, least, highest)
    target = start
    for index in range(start, start + length):
        count, key = rows.counts[index], rows.keys[index]
        if count > least or (count == least and key <= highest):
            rows.keys[target], rows.counts[target], rows.bits[target] = key, count, rows.bits[index]
            target += 1
    rows.length[row] = n


@compiled
def _next_key(rows: BoundedRows, row: int, count: float, key: int) -> int:
    """The lowest key of a row above `key`, of the entries with this count."""
    lowest = 2**31
    for index in range(rows.start[row], rows.start[row] + rows.length[row]):
        if rows.counts[index] == count and key < rows.keys[index] < lowest:
            lowest = rows.keys[index]
    return lowest


@compiled
def scale(rows: BoundedRows, factor: float) -> None:
    """Multiply all counts, and forget entries whose count becomes 0."""
    for row in range(len(rows.start)):
        start, length = rows.start[row], 0
        for index in range(start, start + rows.length[row]):
            count = rows.counts[index] * factor
            if count:
                rows.keys[start + length] = rows.keys[index]
                rows.counts[start + length] = count
                rows.bits[start + length] = rows.bits[index]
                length += 1
        rows.length[row] = length


def keep_rows(rows: BoundedRows, numbers: NDArray[np.int64]) -> BoundedRows:
    """The rows `numbers` [n], ascending, as rows 0 to n - 1. The blocks of the others are free."""
    dropped = np.ones(len(rows.start), np.bool_)
    dropped[numbers] = False
    _free_blocks(rows, dropped)
    return rows._replace(start=rows.start[numbers], length=rows.length[numbers], room=rows.room[numbers])


@compiled
def _free_blocks(rows: BoundedRows, dropped: NDArray[np.bool_]) -> None:
    for row in range(len(dropped)):
        if dropped[row] and rows.room[row]:
            size = _log2(rows.room[row])
            rows.keys[rows.start[row]] = rows.free[size]
            rows.free[size] = rows.start[row]
