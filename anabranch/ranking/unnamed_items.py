"""Items of which only a hash is kept: those that events are about while no catalogue has them.

Anybody who can write events can name any number of items. So such an item takes at most 36 bytes whatever the length of
its id, and a sweep forgets those that no user state contains any more.
"""

from __future__ import annotations

import secrets
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.jit import compiled
from anabranch.ranking.types import Hashes, Mask, Rows

Checks = NDArray[np.uint32]
"""Second hashes of item ids, which tell two ids of one stable hash apart; 0: the id is not known yet."""

FIRST_UNNAMED = 1 << 30
"""The numbers of unnamed items begin here, far above the rows of named ones, so that the arrays by row stay dense."""
NOT_FOUND, COLLIDES = -1, -2
UNKNOWN_CHECK = 0
FREE = 0
MIN_CAPACITY = 1024
GROWTH = 1.5


class _NumberTable(NamedTuple):
    """Open addressing with linear probing, at most two thirds full (Knuth, The Art of Computer Programming, volume 3,
    6.4, algorithm L)."""

    entries: NDArray[np.int32]
    """[2 ** n] an index into `hashes` plus one, or FREE"""
    hashes: Hashes
    """[capacity] by number - FIRST_UNNAMED; 0: the number is not in use"""
    checks: Checks
    """[capacity]"""
    multiplier: np.uint64
    """Odd and random. The stable hash has no key: without a secret, chosen ids could all compete for one entry."""


class UnnamedItems:
    """Numbers for hashes. The number of a removed item is used again: the caller removes none that somebody has."""

    def __init__(self) -> None:
        self._multiplier = np.uint64(secrets.randbits(64) | 1)
        self._table = _new_table(MIN_CAPACITY, self._multiplier)
        self._unused = np.empty(0, np.int32)
        """Indices to use next, the last one first; after them, those from `_end` on."""
        self._end = 0
        """Indices from here on were never used."""

    def __len__(self) -> int:
        return self._end - len(self._unused)

    @property
    def end(self) -> int:
        """All numbers are below this one."""
        return FIRST_UNNAMED + self._end

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return self._unused.nbytes + sum(array.nbytes for array in self._table[:3])

    def find(self, hashes: Hashes) -> Rows:
        """Numbers of hashes [n], NOT_FOUND where there is none."""
        if len(self) == 0:
            return np.full(len(hashes), NOT_FOUND, np.int32)
        return _find(self._table, hashes)

    def find_or_add(self, hashes: Hashes, checks: Checks) -> Rows:
        """Numbers of hashes [n], none of them 0; COLLIDES where the hash is there with another check.

        Where one of the two checks is UNKNOWN_CHECK, they agree, and the other one counts from now on.
        """
        if len(hashes) == 0:
            return np.empty(0, np.int32)
        self._reserve(len(hashes))
        numbers, used = _find_or_add(self._table, hashes, checks, self._unused, self._end)
        reused = min(used, len(self._unused))
        self._unused = self._unused[: len(self._unused) - reused]
        self._end += used - reused
        return numbers

    def hashes(self, numbers: Rows) -> Hashes:
        """Hashes in the shape of `numbers`."""
        return self._table.hashes[numbers - FIRST_UNNAMED]

    def remove(self, numbers: Rows) -> None:
        """Remove items; their numbers are used again."""
        keep = self._table.hashes[: self._end] != 0
        keep[numbers - FIRST_UNNAMED] = False
        self.keep(keep)

    def keep(self, in_use: Mask) -> None:
        """Remove the items [end - FIRST_UNNAMED] that are not in use, and give their memory back."""
        live = in_use & (self._table.hashes[: self._end] != 0)
        self._end = int(np.flatnonzero(live)[-1]) + 1 if live.any() else 0
        live = live[: self._end]
        old, self._table = self._table, _new_table(int(self._end * GROWTH), self._multiplier)
        self._table.hashes[: self._end] = np.where(live, old.hashes[: self._end], 0)
        self._table.checks[: self._end] = np.where(live, old.checks[: self._end], 0)
        self._unused = np.flatnonzero(~live)[::-1].astype(np.int32)
        _index_all(self._table, self._end)

    def _reserve(self, more: int) -> None:
        """Make room for so many more items."""
        end = self._end + max(0, more - len(self._unused))
        if end <= len(self._table.hashes):
            return
        old, self._table = self._table, _new_table(int(end * GROWTH), self._multiplier)
        self._table.hashes[: self._end] = old.hashes[: self._end]
        self._table.checks[: self._end] = old.checks[: self._end]
        _index_all(self._table, self._end)


def _new_table(capacity: int, multiplier: np.uint64) -> _NumberTable:
    capacity = max(capacity, MIN_CAPACITY)
    entries = np.zeros(1 << (capacity * 3 // 2).bit_length(), np.int32)
    return _NumberTable(entries, np.zeros(capacity, np.uint64), np.zeros(capacity, np.uint32), multiplier)


@compiled
def _entry_of(table: _NumberTable, item_hash: np.uint64) -> int:
    """The entry of a hash or, if it has none, the free one where it belongs."""
    mask = len(table.entries) - 1
    entry = int(np.int64((item_hash * table.multiplier) >> np.uint64(32))) & mask
    while table.entries[entry] != FREE and table.hashes[table.entries[entry] - 1] != item_hash:
        entry = (entry + 1) & mask
    return entry


@compiled
def _find(table: _NumberTable, hashes: Hashes) -> Rows:
    numbers = np.empty(len(hashes), np.int32)
    for n in range(len(hashes)):
        index = table.entries[_entry_of(table, hashes[n])] - 1
        numbers[n] = NOT_FOUND if index < 0 else FIRST_UNNAMED + index
    return numbers


@compiled
def _find_or_add(
    table: _NumberTable, hashes: Hashes, checks: Checks, unused: NDArray[np.int32], end: int
) -> tuple[Rows, int]:
    """Numbers [n], and how many items were added."""
    numbers, added = np.empty(len(hashes), np.int32), 0
    for n in range(len(hashes)):
        entry = _entry_of(table, hashes[n])
        index = table.entries[entry] - 1
        if index < 0:
            index = unused[len(unused) - 1 - added] if added < len(unused) else end + added - len(unused)
            added += 1
            table.entries[entry], table.hashes[index] = index + 1, hashes[n]
            table.checks[index] = checks[n]
        elif table.checks[index] == UNKNOWN_CHECK:
            table.checks[index] = checks[n]
        agrees = checks[n] == UNKNOWN_CHECK or table.checks[index] == checks[n]
        numbers[n] = FIRST_UNNAMED + index if agrees else COLLIDES
    return numbers, added


@compiled
def _index_all(table: _NumberTable, end: int) -> None:
    """Enter the hashes [end] in the empty entries."""
    for index in range(end):
        if table.hashes[index] != 0:
            table.entries[_entry_of(table, table.hashes[index])] = index + 1
