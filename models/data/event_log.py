"""The event log that models are trained on: events as numpy columns, in time order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anabranch.errors import AnabranchError
from anabranch.messages import EVENT_TYPES, Event

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
UInt8 = NDArray[np.uint8]

DAY_MS = 86_400_000
NONE = -1
"""Item number of an event that shows interest in no item (a `search`, a `refund`), and session number of an event
without a session id."""


class NotEnoughData(AnabranchError):
    """A log with too little to train, to divide or to test; the message says what it has and what to do."""


class EventColumns(NamedTuple):
    """N events in any order. The columns are as in `EventLog`, of any integer type; without `query`, none has one."""

    user: NDArray[np.integer]  # [N]
    item: NDArray[np.integer]  # [N]
    type: NDArray[np.integer]  # [N]
    ts: NDArray[np.integer]  # [N]
    session: NDArray[np.integer]  # [N]
    query: NDArray[np.integer] | None = None  # [N]


@dataclass(frozen=True)
class EventLog:
    """N events sorted by `ts`; events with equal `ts` keep their order.

    `user`, `item` and `query` are indices of `user_ids`, `item_ids` and `queries`. A slice of a log shares these lists
    with it, so numbers have the same meaning in both.
    """

    user: Int32  # [N]
    item: Int32  # [N], NONE for a search and a refund
    type: UInt8  # [N], index in EVENT_TYPES
    ts: Int64  # [N], UTC milliseconds
    session: Int64  # [N], equal for events of one session, NONE without a session
    query: Int32  # [N], NONE for an event that is no search
    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    queries: tuple[str, ...]
    """Texts of the searches."""

    def __len__(self) -> int:
        return len(self.ts)

    @classmethod
    def from_events(cls, events: Iterable[Event], item_ids: Sequence[str] = ()) -> EventLog:
        """Number the users and items of `events` in order of appearance; `item_ids` have the first item numbers.

        Impressions are left out: see `Event.is_action`.
        """
        users: dict[str, int] = {}
        items = {item_id: number for number, item_id in enumerate(item_ids)}
        sessions: dict[tuple[str, str], int] = {}
        queries: dict[str, int] = {}
        rows = [
            (
                users.setdefault(event.user_id, len(users)),
                NONE if (item := event.item_of_interest) is None else items.setdefault(item, len(items)),
                EVENT_TYPES.index(event.type),
                event.ts,
                NONE
                if event.session_id is None
                else sessions.setdefault((event.user_id, event.session_id), len(sessions)),
                NONE if (query := event.search_query) is None else queries.setdefault(query, len(queries)),
            )
            for event in events
            if event.is_action
        ]
        columns = EventColumns(*np.array(rows, dtype=np.int64).reshape(-1, 6).T)
        return cls.from_columns(columns, user_ids=tuple(users), item_ids=tuple(items), queries=tuple(queries))

    @classmethod
    def from_columns(
        cls,
        columns: EventColumns,
        *,
        user_ids: tuple[str, ...],
        item_ids: tuple[str, ...],
        queries: tuple[str, ...] = (),
    ) -> EventLog:
        """Sort the events by time."""
        query = np.full(len(columns.ts), NONE) if columns.query is None else columns.query
        order = np.argsort(columns.ts, kind="stable")
        return cls(
            columns.user[order].astype(np.int32),
            columns.item[order].astype(np.int32),
            columns.type[order].astype(np.uint8),
            columns.ts[order].astype(np.int64),
            columns.session[order].astype(np.int64),
            query[order].astype(np.int32),
            user_ids,
            item_ids,
            queries,
        )

    def take(self, rows: slice | NDArray[np.bool_] | NDArray[np.integer]) -> EventLog:
        """The events at `rows`, which must ascend."""
        return replace(
            self,
            user=self.user[rows],
            item=self.item[rows],
            type=self.type[rows],
            ts=self.ts[rows],
            session=self.session[rows],
            query=self.query[rows],
        )

    def between(self, start: int, end: int) -> EventLog:
        """Events with `start` ≤ ts < `end`, UTC milliseconds."""
        first, last = np.searchsorted(self.ts, [start, end])
        return self.take(slice(int(first), int(last)))

    def followed_by(self, later: EventLog) -> EventLog:
        """This log, then a later slice of the same log. Raises `ValueError` if their numbers differ in meaning."""
        if any(getattr(later, name) is not getattr(self, name) for name in ("user_ids", "item_ids", "queries")):
            raise ValueError("cannot join logs that number users, items or queries differently")
        parts = ((getattr(self, name), getattr(later, name)) for name in EventColumns._fields)
        user, item, type, ts, session, query = (np.concatenate(part) for part in parts)
        return replace(self, user=user, item=item, type=type, ts=ts, session=session, query=query)

    def split(self, ts: int) -> tuple[EventLog, EventLog]:
        """Events before `ts` (UTC milliseconds), and the others."""
        row = int(np.searchsorted(self.ts, ts))
        return self.take(slice(0, row)), self.take(slice(row, None))

    def last(self, events: int) -> EventLog:
        """The newest `events` events."""
        return self.take(slice(max(0, len(self) - events), None))

    def time_at(self, share: float) -> int:
        """Time (UTC milliseconds) before which `share` (0 to 1) of the events lie; after the last event for 1."""
        if not len(self):
            raise ValueError("an empty log has no times")
        row = int(share * len(self))
        return int(self.ts[row]) if row < len(self) else int(self.ts[-1]) + 1

    def previous(self) -> NDArray[np.int64]:
        """Row of the same user's previous event for each event [N], -1 for the user's first."""
        order = np.lexsort((np.arange(len(self)), self.user))
        same_user = self.user[order][1:] == self.user[order][:-1]
        previous = np.full(len(self), -1, np.int64)
        previous[order[1:][same_user]] = order[:-1][same_user]
        return previous

    def renumbered(self, item_ids: Sequence[str]) -> EventLog:
        """The events on `item_ids`, and searches; an item's number becomes its index in `item_ids`."""
        numbers = {item_id: number for number, item_id in enumerate(item_ids)}
        renumbering = np.array([numbers.get(item_id, NONE) for item_id in self.item_ids] + [NONE], np.int32)
        item = renumbering[self.item]
        return replace(self, item=item, item_ids=tuple(item_ids)).with_items_and_searches()

    def with_items(self) -> EventLog:
        """The events that have an item."""
        return self.take(self.item != NONE)

    def with_items_and_searches(self) -> EventLog:
        """The events that have an item or a query: those that change a user vector."""
        return self.take((self.item != NONE) | (self.query != NONE))
