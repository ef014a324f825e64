"""The training log: events as numpy columns, in time order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from anabranch.messages import EVENT_TYPES, Event

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
UInt8 = NDArray[np.uint8]

NONE = -1
"""The item of a `search`, and the session of an event that names none."""


@dataclass(frozen=True)
class EventLog:
    """N events sorted by `ts`; ties keep the order in which they came.

    `user` and `item` index `user_ids` and `item_ids`; a slice of a log shares both lists with it, so numbers
    mean the same in both.
    """

    user: Int32  # [N]
    item: Int32  # [N], NONE for a search
    type: UInt8  # [N], position in EVENT_TYPES
    ts: Int64  # [N], UTC milliseconds
    session: Int64  # [N], equal for events of one session, NONE without
    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ts)

    @classmethod
    def from_events(cls, events: Iterable[Event], item_ids: Sequence[str] = ()) -> EventLog:
        """Number the ids of `events` in order of appearance, after the known `item_ids` (such as the catalogue)."""
        users: dict[str, int] = {}
        items = {item_id: number for number, item_id in enumerate(item_ids)}
        sessions: dict[tuple[str, str], int] = {}
        rows = [
            (
                users.setdefault(event.user_id, len(users)),
                NONE if event.item_id is None else items.setdefault(event.item_id, len(items)),
                EVENT_TYPES.index(event.type),
                event.ts,
                NONE
                if event.session_id is None
                else sessions.setdefault((event.user_id, event.session_id), len(sessions)),
            )
            for event in events
        ]
        columns = np.array(rows, dtype=np.int64).reshape(-1, 5)
        return cls.from_columns(*columns.T, user_ids=tuple(users), item_ids=tuple(items))

    @classmethod
    def from_columns(
        cls,
        user: NDArray[np.integer],
        item: NDArray[np.integer],
        type: NDArray[np.integer],
        ts: NDArray[np.integer],
        session: NDArray[np.integer],
        *,
        user_ids: tuple[str, ...],
        item_ids: tuple[str, ...],
    ) -> EventLog:
        """Columns in any order of time, [N] each."""
        order = np.argsort(ts, kind="stable")
        return cls(
            user[order].astype(np.int32),
            item[order].astype(np.int32),
            type[order].astype(np.uint8),
            ts[order].astype(np.int64),
            session[order].astype(np.int64),
            user_ids,
            item_ids,
        )

    def take(self, rows: slice | NDArray[np.bool_] | NDArray[np.integer]) -> EventLog:
        """The chosen events; `rows` must keep the order of time."""
        return replace(
            self,
            user=self.user[rows],
            item=self.item[rows],
            type=self.type[rows],
            ts=self.ts[rows],
            session=self.session[rows],
        )

    def between(self, start: int, end: int) -> EventLog:
        """Events with `start` ≤ ts < `end`, UTC milliseconds."""
        first, last = np.searchsorted(self.ts, [start, end])
        return self.take(slice(int(first), int(last)))

    def followed_by(self, later: EventLog) -> EventLog:
        """This log, then a later slice of the same one."""
        if later.user_ids is not self.user_ids or later.item_ids is not self.item_ids:
            raise ValueError("logs that number users or items differently cannot be joined")
        parts = ((getattr(self, name), getattr(later, name)) for name in ("user", "item", "type", "ts", "session"))
        user, item, type, ts, session = (np.concatenate(part) for part in parts)
        return replace(self, user=user, item=item, type=type, ts=ts, session=session)

    def split(self, at: int) -> tuple[EventLog, EventLog]:
        """Events before `at` (UTC milliseconds), and the others."""
        cut = int(np.searchsorted(self.ts, at))
        return self.take(slice(0, cut)), self.take(slice(cut, None))

    def last(self, events: int) -> EventLog:
        """The newest `events` events."""
        return self.take(slice(max(0, len(self) - events), None))

    def time_at(self, share: float) -> int:
        """The time stamp before which `share` (0 to 1) of the events lie; the end of the log for 1."""
        if not len(self):
            raise ValueError("an empty log has no times")
        row = int(share * len(self))
        return int(self.ts[row]) if row < len(self) else int(self.ts[-1]) + 1

    def previous(self) -> NDArray[np.int64]:
        """Row of each event's user's event before, -1 for the first; [N]."""
        order = np.lexsort((np.arange(len(self)), self.user))
        same = self.user[order][1:] == self.user[order][:-1]
        previous = np.full(len(self), -1, np.int64)
        previous[order[1:][same]] = order[:-1][same]
        return previous

    def renumbered(self, item_ids: Sequence[str]) -> EventLog:
        """The events about `item_ids` only, `item` being the place in that list."""
        place = {item_id: number for number, item_id in enumerate(item_ids)}
        new = np.array([place.get(item_id, NONE) for item_id in self.item_ids] + [NONE], np.int32)
        return replace(self, item=new[self.item], item_ids=tuple(item_ids)).with_items()

    def with_items(self) -> EventLog:
        """Only the events about an item: searches left out."""
        return self.take(self.item != NONE)

    def events(self) -> list[Event]:
        """The events as messages; ids are the row numbers. Searches are left out: the log does not keep queries."""
        about_items = np.flatnonzero(self.item != NONE)
        return [self._event(int(row)) for row in about_items]

    def _event(self, row: int) -> Event:
        session = int(self.session[row])
        return Event(
            event_id=str(row),
            user_id=self.user_ids[self.user[row]],
            type=EVENT_TYPES[self.type[row]],  # type: ignore[arg-type]
            item_id=self.item_ids[self.item[row]],
            ts=int(self.ts[row]),
            session_id=None if session == NONE else str(session),
        )
