"""The rows of a leave-one-out folder, as our own benchmarks read them: to learn from, to stop by and to test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.data.datasets import leave_one_out
from models.data.event_log import EventLog

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class UserSequences:
    """Items of U users, user by user, oldest first."""

    item: Numbers  # [N]
    start: Numbers  # [U + 1], row of each user's first item, and N

    @classmethod
    def from_log(cls, log: EventLog) -> Self:
        """Every user of the log's `user_ids` has a sequence; it may be empty."""
        order = np.lexsort((np.arange(len(log)), log.user))  # stable: each user's events stay in time order
        start = np.searchsorted(log.user[order], np.arange(len(log.user_ids) + 1))
        return cls(log.item[order].astype(np.int64), start.astype(np.int64))

    @property
    def bounds(self) -> Numbers:
        """First row of each user, and the row after the last [U, 2]."""
        return np.stack([self.start[:-1], self.start[1:]], axis=1)

    def newest(self, events: int) -> Numbers:
        """Bounds [U, 2] of each user's newest events, at most so many."""
        first, end = self.bounds.T
        return np.stack([np.maximum(first, end - events), end], axis=1)


@dataclass(frozen=True)
class Targets:
    """The item to predict of each of M users, from `known`, the events before it."""

    known: UserSequences
    user: Numbers  # [M]
    item: Numbers  # [M]

    @classmethod
    def of(cls, log: EventLog, start: int, end: int) -> Self:
        """The events with `start` ≤ ts < `end` (UTC milliseconds) of users with earlier ones, as our benchmarks do."""
        earlier, held_out = log.split(start)[0], log.between(start, end)
        known = UserSequences.from_log(earlier)
        has_history = np.diff(known.start)[held_out.user] > 0
        return cls(known, held_out.user[has_history].astype(np.int64), held_out.item[has_history].astype(np.int64))


@dataclass(frozen=True)
class LeaveOneOutRows:
    """Each user's last event is the test, the one before it is for validation."""

    name: str
    items: int
    """Size of the catalogue: every item is ranked, also one without a training event."""
    train: UserSequences
    train_and_validation: UserSequences
    validation: Targets
    test: Targets
    user_ids: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Raises `DataError` if the folder is not in the neutral format."""
        data = leave_one_out([folder])
        test = Targets.of(data.log, data.test_from, int(data.log.ts[-1]) + 1)
        validation = Targets.of(data.log, data.validation_from, data.test_from)
        return cls(folder.name, len(data.items), validation.known, test.known, validation, test, data.log.user_ids)
