"""The newest visits of all users in memory of a fixed size, linked by item and by owner."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]

CAPACITY = 500_000
"""Newest visits that are searched: 22 MB."""


class VisitColumns(NamedTuple):
    """Visit `n` is at index `n` modulo N. Links are visit numbers, -1: none; one below `first` is gone."""

    item: NDArray[np.int32]  # [N]
    owner: Numbers  # [N], number of the session or the user
    ts: Numbers  # [N], UTC milliseconds
    before_of_item: Numbers  # [N], the item's visit before this one
    before_of_owner: Numbers  # [N], the owner's visit before this one
    after_of_owner: Numbers  # [N], the owner's visit after this one


class VisitLog:
    """Visits by number, from 0 on. An owner is what is compared: a session, or a user."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        """Room for `capacity` visits; the oldest are overwritten."""
        links = (np.full(capacity, -1, np.int64) for _ in range(5))
        self.columns = VisitColumns(np.full(capacity, -1, np.int32), *links)
        self.count = 0
        """Visits ever appended: the number of the next."""
        self.newest_of_item: Numbers = np.full(1024, -1, np.int64)
        """By item number."""

    @property
    def first(self) -> int:
        """Number of the oldest visit that is still there."""
        return max(0, self.count - len(self.columns.item))

    @property
    def newest_ts(self) -> int:
        """UTC milliseconds of the newest visit, 0 without one."""
        return int(self.columns.ts[(self.count - 1) % len(self.columns.ts)]) if self.count else 0

    def append(self, item: int, owner: int, ts: int, before: int) -> int:
        """Add a visit; `before` is the owner's visit before it, -1: none. Returns its number."""
        number, columns = self.count, self.columns
        self.newest_of_item = grown(self.newest_of_item, item + 1)
        at = number % len(columns.item)
        columns.item[at], columns.owner[at], columns.ts[at] = item, owner, ts
        columns.before_of_item[at] = self.newest_of_item[item]
        columns.before_of_owner[at], columns.after_of_owner[at] = before, -1
        if before >= 0 and before > number - len(columns.item):
            columns.after_of_owner[before % len(columns.item)] = number
        self.newest_of_item[item] = number
        self.count += 1
        return number


def grown(numbers: Numbers, size: int, fill: int = -1) -> Numbers:
    """The numbers, with room for `size` at least."""
    if size <= len(numbers):
        return numbers
    return np.concatenate([numbers, np.full(max(size, 2 * len(numbers)) - len(numbers), fill, np.int64)])
