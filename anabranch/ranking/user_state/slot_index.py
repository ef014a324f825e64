"""Which slot a user has, in a hash table: a dictionary of user ids would take a sixth of all memory of a user."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.jit import compiled
from anabranch.ranking.types import Slots

UserHashes = NDArray[np.int64]
UserChecks = NDArray[np.uint16]
Partitions = NDArray[np.int32]
Entries = NDArray[np.int32]
"""[2 ** n] a slot plus one, or FREE"""

FREE = 0
NO_SLOT = -1
CHECK_SUFFIX = "\0"
PARTITION_STRIDE = 1_000_003
"""A prime, so that a user's states in several partitions do not compete for the same entries."""


class UserKeys(NamedTuple):
    """What stands for n user ids: 80 bits, so that no two of a billion users share a key.

    Both hashes are Python's own, with a random key per process, so that nobody can make them collide.
    """

    hash: UserHashes
    """[n]"""
    check: UserChecks
    """[n] a second hash, which fits into the padding of a user's record"""


class SlotKeys(NamedTuple):
    """The user of each slot."""

    user: UserHashes
    """[slots]"""
    check: UserChecks
    """[slots]"""
    partition: Partitions
    """[slots]"""


def user_keys(user_ids: Iterable[str]) -> UserKeys:
    """The keys of user ids [n]."""
    user_ids = list(user_ids)
    checks = [hash(user_id + CHECK_SUFFIX) & 0xFFFF for user_id in user_ids]
    return UserKeys(np.array(list(map(hash, user_ids)), np.int64), np.array(checks, np.uint16))


class SlotIndex:
    """Slots by user and partition. Open addressing with linear probing, at most half full (Knuth, The Art of Computer
    Programming, volume 3, 6.4, algorithms L and R)."""

    def __init__(self, capacity: int) -> None:
        """For up to `capacity` users."""
        self._entries = np.zeros(1 << (2 * capacity).bit_length(), np.int32)

    def find(self, users: UserKeys, partitions: Partitions, keys: SlotKeys) -> Slots:
        """Slots [n] of users [n] of partitions [n], NO_SLOT where a user has none."""
        return _find(self._entries, SlotKeys(users.hash, users.check, partitions), keys)

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
def _find(entries: Entries, wanted: SlotKeys, keys: SlotKeys) -> Slots:
    mask, slots = len(entries) - 1, np.empty(len(wanted.user), np.int64)
    for n in range(len(wanted.user)):
        slots[n] = NO_SLOT
        user, check, partition = wanted.user[n], wanted.check[n], wanted.partition[n]
        entry = _hash(user, partition) & mask
        while entries[entry] != FREE:
            slot = entries[entry] - 1
            if keys.user[slot] == user and keys.check[slot] == check and keys.partition[slot] == partition:
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
