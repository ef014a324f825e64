"""Where the states of evicted users are in the changelog: 16 bytes per entry, whatever the length of the ids."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.jit import compiled
from anabranch.ranking.user_state.slot_index import UserKeys

Offsets = NDArray[np.int64]

NOT_EVICTED = -1
CHECK_BITS = 16
"""Offsets have the other 47 bits: enough for 400 years of 10,000 saved states a second."""
FREE = -1
MIN_CAPACITY = 64
MAX_LOAD, GROWTH, MIN_LOAD = 0.8, 1.4, 0.2
"""The table has 1.4 times the entries that it needs at `MAX_LOAD`, so that it is between 57 and 80 % full."""


class _OffsetTable(NamedTuple):
    """Open addressing with linear probing (Knuth, The Art of Computer Programming, volume 3, 6.4, algorithms L and R).
    User hashes have a secret key, so nobody can make users compete for entries."""

    users: NDArray[np.int64]
    """[capacity] hash of the user id"""
    places: NDArray[np.int64]
    """[capacity] the offset, and in the lowest CHECK_BITS the check of the user id; or FREE"""


class EvictedUsers:
    """The offsets of one partition's evicted users."""

    def __init__(self) -> None:
        self._table = _new_table(MIN_CAPACITY)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """Bytes of the table."""
        return self._table.users.nbytes + self._table.places.nbytes

    def add(self, users: UserKeys, offsets: Offsets) -> None:
        """Remember the offsets [n] of users [n]; a later offset replaces an earlier one."""
        self._resize(self._count + len(offsets))
        self._count += _add(self._table, users.hash, _places(offsets, users))

    def find(self, users: UserKeys) -> Offsets:
        """Offsets of users [n], NOT_EVICTED for those who are not evicted."""
        return _find(self._table, users.hash, users.check)

    def remove(self, users: UserKeys) -> None:
        """Forget those of the users [n] who are evicted."""
        if self._count and len(users.hash):
            self._count -= _remove(self._table, users.hash, users.check)
            self._resize(self._count)

    def _resize(self, count: int) -> None:
        """Make room for so many users, or give back what they do not need."""
        capacity = len(self._table.users)
        if count > MAX_LOAD * capacity or (count < MIN_LOAD * capacity and capacity > MIN_CAPACITY):
            old, self._table = self._table, _new_table(max(MIN_CAPACITY, int(GROWTH * count / MAX_LOAD) + 1))
            used = old.places != FREE
            _add(self._table, old.users[used], old.places[used])


def _new_table(capacity: int) -> _OffsetTable:
    return _OffsetTable(np.zeros(capacity, np.int64), np.full(capacity, FREE, np.int64))


def _places(offsets: Offsets, users: UserKeys) -> NDArray[np.int64]:
    return offsets << CHECK_BITS | users.check.astype(np.int64)


@compiled
def _entry_of(table: _OffsetTable, user: int, check: int) -> int:
    """The entry of a user or, if there is none, the free one where it belongs."""
    users, places = table.users, table.places
    entry = _ideal(user, len(users))
    while places[entry] != FREE and (users[entry] != user or places[entry] & ((1 << CHECK_BITS) - 1) != check):
        entry = entry + 1 if entry + 1 < len(users) else 0
    return entry


@compiled
def _ideal(user: int, capacity: int) -> int:
    return int(np.int64(np.uint64(user) % np.uint64(capacity)))


@compiled
def _add(table: _OffsetTable, users: NDArray[np.int64], places: NDArray[np.int64]) -> int:
    """How many of the users are new."""
    new = 0
    for n in range(len(users)):
        entry = _entry_of(table, users[n], places[n] & ((1 << CHECK_BITS) - 1))
        new += table.places[entry] == FREE
        table.users[entry], table.places[entry] = users[n], places[n]
    return new


@compiled
def _find(table: _OffsetTable, users: NDArray[np.int64], checks: NDArray[np.uint16]) -> Offsets:
    offsets = np.empty(len(users), np.int64)
    for n in range(len(users)):
        place = table.places[_entry_of(table, users[n], int(checks[n]))]
        offsets[n] = NOT_EVICTED if place == FREE else place >> CHECK_BITS
    return offsets


@compiled
def _remove(table: _OffsetTable, users: NDArray[np.int64], checks: NDArray[np.uint16]) -> int:
    """How many of the users were there."""
    capacity, removed = len(table.users), 0
    for n in range(len(users)):
        hole = _entry_of(table, users[n], int(checks[n]))
        if table.places[hole] == FREE:
            continue
        removed += 1
        entry = hole + 1 if hole + 1 < capacity else 0
        while table.places[entry] != FREE:
            ideal = _ideal(table.users[entry], capacity)
            if (entry - ideal) % capacity >= (entry - hole) % capacity:  # probing for this user would stop at the hole
                table.users[hole], table.places[hole] = table.users[entry], table.places[entry]
                hole = entry
            entry = entry + 1 if entry + 1 < capacity else 0
        table.places[hole] = FREE
    return removed
