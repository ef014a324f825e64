"""A log sorted by user, windows of it for training sequence models, and prediction points for seed models."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from models.data.event_log import NONE, EventLog
from models.data.sessions import begins_session

Positions = NDArray[np.int64]
Floats = NDArray[np.float32]
Number = TypeVar("Number", np.int64, np.uint8)

LENGTH_JITTER = 3.0
"""Windows are sorted by length plus a random number up to this, so that they do not always share the same batch."""


@dataclass(frozen=True)
class Contexts:
    """What is known at B prediction points, each right after an event."""

    user: NDArray[np.int32]  # [B]
    recent: NDArray[np.int32]  # [B, R], items of the newest events, newest first, padded with -1
    ts: NDArray[np.int64] | None = None  # [B, R], UTC milliseconds of these events, padded with 0
    type: NDArray[np.uint8] | None = None  # [B, R], their index in EVENT_TYPES, padded with 0

    def __len__(self) -> int:
        return len(self.user)

    def times(self) -> NDArray[np.int64]:
        """`ts` [B, R]. Raises `ValueError` if there are none."""
        return _required("ts", self.ts)

    def types(self) -> NDArray[np.uint8]:
        """`type` [B, R]. Raises `ValueError` if there are none."""
        return _required("type", self.type)

    def part(self, start: int, end: int) -> Contexts:
        """The prediction points from `start` up to, but not including, `end`."""
        return Contexts(
            self.user[start:end],
            self.recent[start:end],
            None if self.ts is None else self.ts[start:end],
            None if self.type is None else self.type[start:end],
        )

    def only(self, chosen: NDArray[np.bool_]) -> Contexts:
        """The same prediction points if only the chosen [B, R] of their events had happened."""
        chosen = chosen & (self.recent >= 0)
        order = np.argsort(~chosen, axis=1, kind="stable")
        present = np.arange(chosen.shape[1]) < chosen.sum(axis=1, keepdims=True)  # [B, R]
        return Contexts(
            self.user,
            np.where(present, np.take_along_axis(self.recent, order, axis=1), -1).astype(np.int32),
            None if self.ts is None else np.where(present, np.take_along_axis(self.ts, order, axis=1), 0),
            None if self.type is None else np.where(present, np.take_along_axis(self.type, order, axis=1), 0),
        )


@dataclass(frozen=True)
class SequenceWindows:
    """B windows of up to L consecutive events of one user each. Rows are those of `Sequences`."""

    row: Positions  # [B, L]
    present: NDArray[np.bool_]  # [B, L], False for padding
    end: Positions  # [B, 1], row after the user's last event


@dataclass(frozen=True)
class Sequences:
    """N events, sorted by user, then time: those about items, and searches where `with_searches` made them."""

    user: NDArray[np.int32]  # [N]
    item: NDArray[np.int32]  # [N], NONE for a search without an item
    query: NDArray[np.int32]  # [N], NONE for an event that is no search
    type: NDArray[np.uint8]  # [N], index in EVENT_TYPES
    seconds_since: Floats  # [N], seconds since the user's previous event, 0 for the first
    ts: NDArray[np.int64]  # [N], UTC milliseconds
    start: Positions  # [U + 1], row of each user's first event, and N
    session: Positions  # [N], number of the event's session, ascending

    def __len__(self) -> int:
        return len(self.item)

    @classmethod
    def from_log(cls, log: EventLog) -> Sequences:
        """Sort the events of a log that have an item."""
        return cls._from_events(log.with_items())

    @classmethod
    def with_searches(cls, log: EventLog) -> Sequences:
        """Sort the events of a log that have an item, and its searches, which an encoder reads."""
        return cls._from_events(log.with_items_and_searches())

    @classmethod
    def _from_events(cls, log: EventLog) -> Sequences:
        order = np.lexsort((np.arange(len(log)), log.user))  # stable: each user's events stay in time order
        sorted_log = log.take(order)
        session = np.cumsum(begins_session(sorted_log), dtype=np.int64)
        return cls._sorted(sorted_log.user, sorted_log.item, sorted_log.query, sorted_log.type, sorted_log.ts, session)

    @classmethod
    def _sorted(
        cls,
        user: NDArray[np.int32],
        item: NDArray[np.int32],
        query: NDArray[np.int32],
        type: NDArray[np.uint8],
        ts: NDArray[np.int64],
        session: Positions,
    ) -> Sequences:
        first = np.r_[True, user[1:] != user[:-1]][: len(user)]
        seconds = np.where(first, 0, np.diff(ts, prepend=ts[:1])) / 1000
        start = np.r_[np.flatnonzero(first), len(user)]
        return cls(
            user=user,
            item=item,
            query=query,
            type=type,
            seconds_since=seconds.astype(np.float32),
            ts=ts,
            start=start,
            session=session,
        )

    @cached_property
    def has_item(self) -> NDArray[np.bool_]:
        """Mask [N] of the visits, the events about items: only they are targets, and only their items are negatives."""
        mask: NDArray[np.bool_] = self.item != NONE
        return mask

    @cached_property
    def visit_row(self) -> Positions:
        """Rows [V] of the visits."""
        return np.flatnonzero(self.has_item)

    @cached_property
    def visits_until(self) -> Positions:
        """Number of visits [N] up to each row, itself included."""
        return np.cumsum(self.has_item, dtype=np.int64)

    def only(self, rows: NDArray[np.bool_]) -> Sequences:
        """The events of a mask [N], as if the users had had no others."""
        return Sequences._sorted(
            self.user[rows], self.item[rows], self.query[rows], self.type[rows], self.ts[rows], self.session[rows]
        )

    def windows(self, length: int, random: np.random.Generator) -> Positions:
        """Bounds [W, 2] of windows that cover every event once, cut at random offsets and shuffled."""
        bounds = []
        for start, end in zip(self.start[:-1].tolist(), self.start[1:].tolist(), strict=True):
            first = start + (int(random.integers(1, length + 1)) if end - start > length else length)
            edges = [start, *range(first, end, length), end]
            bounds += [(a, b) for a, b in pairwise(edges)]
        return random.permutation(np.array(bounds, np.int64).reshape(-1, 2))

    def batches(self, bounds: Positions, events: int, random: np.random.Generator) -> list[Positions]:
        """Windows with bounds [W, 2] in shuffled batches of about `events` events; a batch has windows of similar
        length, so that there is little padding. Without windows there are no batches."""
        if not len(bounds):
            return []
        length = bounds[:, 1] - bounds[:, 0]
        by_length = np.argsort(length + LENGTH_JITTER * random.random(len(bounds)), kind="stable")
        batch = np.cumsum(length[by_length]) // events
        parts = np.split(bounds[by_length], np.flatnonzero(np.diff(batch)) + 1)
        return [parts[index] for index in random.permutation(len(parts))]

    def covered(self, bounds: Positions) -> NDArray[np.bool_]:
        """Mask [N] of the events in windows with bounds [W, 2], and of the user's next one after each, which may be its
        target."""
        user_end = self.start[np.searchsorted(self.start, bounds[:, 0], side="right")]
        edges = np.zeros(len(self.item) + 1, np.int64)
        np.add.at(edges, bounds[:, 0], 1)
        np.add.at(edges, np.minimum(bounds[:, 1] + 1, user_end), -1)
        covered: NDArray[np.bool_] = edges.cumsum()[:-1] > 0
        return covered

    def gather(self, bounds: Positions) -> SequenceWindows:
        """Rows of windows with bounds [B, 2]; padding repeats a window's last row."""
        length = int((bounds[:, 1] - bounds[:, 0]).max())
        row = bounds[:, :1] + np.arange(length)
        present = row < bounds[:, 1:]
        end = self.start[np.searchsorted(self.start, bounds[:, :1], side="right")]
        return SequenceWindows(np.minimum(row, bounds[:, 1:] - 1), present, end)

    def contexts(self, rows: Positions, length: int) -> Contexts:
        """The prediction points right after the events at rows [B], with up to `length` recent events."""
        begin = self.start[np.searchsorted(self.start, rows, side="right") - 1][:, None]
        earlier = rows[:, None] - np.arange(length)  # [B, R]
        present, row = earlier >= begin, np.maximum(earlier, 0)
        return Contexts(
            user=self.user[rows],
            recent=np.where(present, self.item[row], -1).astype(np.int32),
            ts=np.where(present, self.ts[row], 0),
            type=np.where(present, self.type[row], 0).astype(np.uint8),
        )

    def following(self, rows: Positions, length: int) -> NDArray[np.int32]:
        """Items [B, length] of the user's events right after rows [B], padded with -1."""
        end = self.start[np.searchsorted(self.start, rows, side="right")][:, None]
        later = rows[:, None] + 1 + np.arange(length)
        return np.where(later < end, self.item[np.minimum(later, len(self) - 1)], -1).astype(np.int32)


def _required(name: str, column: NDArray[Number] | None) -> NDArray[Number]:
    if column is None:
        raise ValueError(f"these contexts have no `{name}`: make them with Sequences.contexts")
    return column
