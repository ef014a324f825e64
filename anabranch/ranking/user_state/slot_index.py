"""Which slot a user has: a table of hashes, for a dictionary of names would take a sixth of a user's memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.jit import compiled
from anabranch.ranking.types import Slots

Users = NDArray[np.int64]
"""Hashes of user ids."""

FREE = 0
NO_SLOT = -1


class SlotKeys(NamedTuple):
    """Whose slot each is."""

    user: Users
    """[slots]"""
    partition: NDArray[np.int32]
    """[slots]"""


def hashes(user_ids: Iterable[str]) -> Users:
    """Hashes [n] of user ids: Python's own, 64 bits that nobody outside this process can foretell.

    Two of a million users share one with a probability of 3e-8, and would share a state.
    """
    return np.fromiter(map(hash, user_ids), np.int64)


class SlotIndex:
    """Slots by user and partition. Open addressing: Knuth, The Art of Computer Programming, 6.4, algorithms L and R."""

    def __init__(self, room: int) -> None:
        """For up to `room` users."""
        self._places = np.zeros(1 << (2 * room).bit_length(), np.int32)
        """One more than a slot, or FREE."""

    def find(self, users: Users, partitions: NDArray[np.int32], keys: SlotKeys) -> Slots:
        """Slots [n] of users [n] of partitions [n], NOBODY's where one has none."""
        slots = np.empty(len(users), np.int64)
        _find(self._places, users, partitions, keys, slots)
        return slots

    def enter(self, slots: Slots, keys: SlotKeys) -> None:
        """The slots [n] are taken, by whom their keys say; nobody had one before."""
        _enter(self._places, slots, keys)

    def remove(self, slots: Slots, keys: SlotKeys) -> None:
        """The slots [n] are nobody's any more; their keys still say whose they were."""
        _remove(self._places, slots, keys)


@compiled
def _home(user: int, partition: int) -> int:
    mixed = user + partition * 1_000_003
    return mixed ^ (mixed >> 32)


@compiled
def _find(places: NDArray[np.int32], users: Users, partitions: NDArray[np.int32], keys: SlotKeys, slots: Slots) -> None:
    last = len(places) - 1
    for n in range(len(users)):
        slots[n] = NO_SLOT
        at = _home(users[n], partitions[n]) & last
        while places[at] != FREE:
            slot = places[at] - 1
            if keys.user[slot] == users[n] and keys.partition[slot] == partitions[n]:
                slots[n] = slot
                break
            at = (at + 1) & last


@compiled
def _enter(places: NDArray[np.int32], slots: Slots, keys: SlotKeys) -> None:
    last = len(places) - 1
    for n in range(len(slots)):
        at = _home(keys.user[slots[n]], keys.partition[slots[n]]) & last
        while places[at] != FREE:
            at = (at + 1) & last
        places[at] = slots[n] + 1


@compiled
def _remove(places: NDArray[np.int32], slots: Slots, keys: SlotKeys) -> None:
    last = len(places) - 1
    for n in range(len(slots)):
        hole = _home(keys.user[slots[n]], keys.partition[slots[n]]) & last
        while places[hole] != slots[n] + 1:
            hole = (hole + 1) & last
        at = (hole + 1) & last
        while places[at] != FREE:  # what probing went past the hole for moves into it
            slot = places[at] - 1
            home = _home(keys.user[slot], keys.partition[slot]) & last
            if (at - home) & last >= (at - hole) & last:
                places[hole] = places[at]
                hole = at
            at = (at + 1) & last
        places[hole] = FREE
