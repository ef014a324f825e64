"""A log cut by user into windows of events: what sequence models train on, and the moments seeds are asked about."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from models.data.event_log import EventLog

Positions = NDArray[np.int64]
Floats = NDArray[np.float32]
Number = TypeVar("Number", np.int64, np.uint8)


@dataclass(frozen=True)
class Contexts:
    """B moments right after an event, for seeds to teach about."""

    user: NDArray[np.int32]  # [B]
    recent: NDArray[np.int32]  # [B, R] items, newest first, -1 padded
    ts: NDArray[np.int64] | None = None  # [B, R] ms, of the recent events, 0 where there is none
    type: NDArray[np.uint8] | None = None  # [B, R] position in EVENT_TYPES, 0 where there is none

    def __len__(self) -> int:
        return len(self.user)

    def times(self) -> NDArray[np.int64]:
        """`ts` [B, R]. Raises `ValueError` where the moments were made without."""
        return _given("ts", self.ts)

    def types(self) -> NDArray[np.uint8]:
        """`type` [B, R]. Raises `ValueError` where the moments were made without."""
        return _given("type", self.type)

    def part(self, start: int, end: int) -> Contexts:
        """The moments from `start` to `end`."""
        return Contexts(
            self.user[start:end],
            self.recent[start:end],
            None if self.ts is None else self.ts[start:end],
            None if self.type is None else self.type[start:end],
        )

    def only(self, chosen: NDArray[np.bool_]) -> Contexts:
        """The same moments as they would be had nothing but the chosen [B, R] of their events happened."""
        chosen = chosen & (self.recent >= 0)
        order = np.argsort(~chosen, axis=1, kind="stable")
        there = np.arange(chosen.shape[1]) < chosen.sum(axis=1, keepdims=True)  # [B, R]
        return Contexts(
            self.user,
            np.where(there, np.take_along_axis(self.recent, order, axis=1), -1).astype(np.int32),
            None if self.ts is None else np.where(there, np.take_along_axis(self.ts, order, axis=1), 0),
            None if self.type is None else np.where(there, np.take_along_axis(self.type, order, axis=1), 0),
        )


@dataclass(frozen=True)
class SequenceWindows:
    """B windows of up to L consecutive events of one user each; rows index `Sequences`."""

    row: Positions  # [B, L]
    present: NDArray[np.bool_]  # [B, L], False where the window is padding
    end: Positions  # [B, 1], the row after the user's last event


@dataclass(frozen=True)
class Sequences:
    """N events sorted by user, then time. `start` [U + 1] bounds the users."""

    user: NDArray[np.int32]  # [N]
    item: NDArray[np.int32]  # [N]
    type: NDArray[np.uint8]  # [N]
    seconds_since: Floats  # [N] since the user's event before, 0 for the first
    ts: NDArray[np.int64]  # [N] ms
    start: Positions  # [U + 1]

    def __len__(self) -> int:
        return len(self.item)

    @classmethod
    def from_log(cls, log: EventLog) -> Sequences:
        """Every event of a log is about an item here: see `EventLog.renumbered`."""
        order = np.lexsort((np.arange(len(log)), log.user))  # a log is in order of time already
        return cls._sorted(log.user[order], log.item[order], log.type[order], log.ts[order])

    @classmethod
    def _sorted(
        cls, user: NDArray[np.int32], item: NDArray[np.int32], type: NDArray[np.uint8], ts: NDArray[np.int64]
    ) -> Sequences:
        first = np.r_[True, user[1:] != user[:-1]][: len(user)]
        since = np.where(first, 0, np.diff(ts, prepend=ts[:1])) / 1000
        start = np.r_[np.flatnonzero(first), len(user)]
        return cls(user=user, item=item, type=type, seconds_since=since.astype(np.float32), ts=ts, start=start)

    def only(self, rows: NDArray[np.bool_]) -> Sequences:
        """The events of a mask [N], as if the users had done nothing else."""
        return Sequences._sorted(self.user[rows], self.item[rows], self.type[rows], self.ts[rows])

    def windows(self, length: int, random: np.random.Generator) -> Positions:
        """Bounds [W, 2] of windows that cover every event once, cut at random places, shuffled."""
        bounds = []
        for start, end in zip(self.start[:-1].tolist(), self.start[1:].tolist(), strict=True):
            first = start + (int(random.integers(1, length + 1)) if end - start > length else length)
            edges = [start, *range(first, end, length), end]
            bounds += [(a, b) for a, b in pairwise(edges)]
        return random.permutation(np.array(bounds, np.int64).reshape(-1, 2))

    def batches(self, bounds: Positions, events: int, random: np.random.Generator) -> list[Positions]:
        """Windows with bounds [W, 2] in batches of about `events` events; windows of a batch are of like length."""
        length = bounds[:, 1] - bounds[:, 0]
        alike = np.argsort(length + 3 * random.random(len(bounds)), kind="stable")  # not always the same company
        batch = np.cumsum(length[alike]) // events
        parts = np.split(bounds[alike], np.flatnonzero(np.diff(batch)) + 1)
        return [parts[at] for at in random.permutation(len(parts))]

    def gather(self, bounds: Positions) -> SequenceWindows:
        """Rows of windows with bounds [B, 2]; padding repeats a window's last row."""
        length = int((bounds[:, 1] - bounds[:, 0]).max())
        row = bounds[:, :1] + np.arange(length)
        present = row < bounds[:, 1:]
        end = self.start[np.searchsorted(self.start, bounds[:, :1], side="right")]
        return SequenceWindows(np.minimum(row, bounds[:, 1:] - 1), present, end)

    def contexts(self, rows: Positions, length: int) -> Contexts:
        """The moments right after the events at rows [B], with the newest `length` items."""
        begin = self.start[np.searchsorted(self.start, rows, side="right") - 1][:, None]
        back = rows[:, None] - np.arange(length)  # [B, R]
        there, row = back >= begin, np.maximum(back, 0)
        return Contexts(
            user=self.user[rows],
            recent=np.where(there, self.item[row], -1).astype(np.int32),
            ts=np.where(there, self.ts[row], 0),
            type=np.where(there, self.type[row], 0).astype(np.uint8),
        )

    def following(self, rows: Positions, length: int) -> NDArray[np.int32]:
        """Items [B, length] of the user's events right after rows [B], -1 padded."""
        end = self.start[np.searchsorted(self.start, rows, side="right")][:, None]
        mean_target_gap = rows[:, None] + 1 + np.arange(length)
        return np.where(mean_target_gap < end, self.item[np.minimum(mean_target_gap, len(self) - 1)], -1).astype(
            np.int32
        )


def _given(name: str, column: NDArray[Number] | None) -> NDArray[Number]:
    if column is None:
        raise ValueError(f"these moments have no `{name}`: make them by Sequences.contexts")
    return column
