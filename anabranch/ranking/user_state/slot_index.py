"""Which slot a user has, in a hash table: a dictionary of user ids would take a sixth of all memory of a user."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.jit import compiled
from anabranch.ranking.types import Slots

UserHashes = NDArray[np.int64]
Partitions = NDArray[np.int32]
Entries = NDArray[np.int32]
"""[2 ** n] a slot plus one, or FREE"""

FREE = 0
NO_SLOT = -1
PARTITION_STRIDE = 1_000_003
"""A prime, so that a user's states in several partitions do not compete for the same entries."""


class SlotKeys(NamedTuple):
    """The user of each slot."""

    user: UserHashes
    """[slots]"""
    partition: Partitions
    """[slots]"""


def hashes(user_ids: Iterable[str]) -> UserHashes:
    """Hashes [n] of user ids: Python's own, of 64 bits, with a random key per process, so that nobody can make them
    collide.

    The probability that any two of a million users collide, and share a state, is 3e-8.
    """
    return np.fromiter(map(hash, user_ids), np.int64)


class SlotIndex:
    """Slots by user and partition. Open addressing with linear probing, at most half full (Knuth, The Art of Computer
    Programming, volume 3, 6.4, algorithms L and R)."""

    def __init__(self, capacity: int) -> None:
        """For up to `capacity` users."""
        self._entries = np.zeros(1 << (2 * capacity).bit_length(), np.int32)

    def find(self, users: UserHashes, partitions: Partitions, keys: SlotKeys) -> Slots:
        """Slots [n] of users [n] of partitions [n], NO_SLOT where a user has none."""
        return _find(self._entries, users, partitions, keys)

    def insert(self, slots: Slots, keys: SlotKeys) -> None:
        """Insert the users that `keys` has for the slots [n]; none of them has a slot yet."""
        _insert(self._entries, slots, keys)

    def remove(self, slots: Slots, keys: SlotKeys) -> None:
        """Remove the users of the slots [n]; `keys` still has them."""
        _remove(self._entries, slots, keys)


@compiled
def _hash(user: int, partition: int) -> int:
    mixed = user + partition * PARTITION_STRIDE
    return mixed ^ (mixed >> 32)


@compiled
def _find(entries: Entries, users: UserHashes, partitions: Partitions, keys: SlotKeys) -> Slots:
    mask, slots = len(entries) - 1, np.empty(len(users), np.int64)
    for n in range(len(users)):
        slots[n] = NO_SLOT
        entry = _hash(users[n], partitions[n]) & mask
        while entries[entry] != FREE:
            slot = entries[entry] - 1
            if keys.user[slot] == users[n] and keys.partition[slot] == partitions[n]:
                slots[n] = slot
                break
            entry = (entry + 1) & mask
    return slots


@compiled
def _insert(entries: Entries, slots: Slots, keys: SlotKeys) -> None:
    mask = len(entries) - 1
    for n in range(len(slots)):
        entry = _hash(keys.user[slots[n]], keys.partition[slots[n]]) & mask
        while entries[entry] != FREE:
            entry = (entry + 1) & mask
        entries[entry] = slots[n] + 1


@compiled
def _remove(entries: Entries, slots: Slots, keys: SlotKeys) -> None:
    mask = len(entries) - 1
    for n in range(len(slots)):
        hole = _hash(keys.user[slots[n]], keys.partition[slots[n]]) & mask
        while entries[hole] != slots[n] + 1:
            hole = (hole + 1) & mask
        entry = (hole + 1) & mask
        while entries[entry] != FREE:
            slot = entries[entry] - 1
            ideal = _hash(keys.user[slot], keys.partition[slot]) & mask
            if (entry - ideal) & mask >= (entry - hole) & mask:  # probing for this slot would stop at the hole
                entries[hole] = entries[entry]
                hole = entry
            entry = (entry + 1) & mask
        entries[hole] = FREE
