"""Each user's newest items and current session, for models that learn event by event.

Sessions end by the ranker's rule.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from models.data.event_log import NONE, EventLog
from models.data.session_rule import session_ends


@dataclass
class ItemHistory:
    """One user's newest items, oldest first; `items` has the most that are kept for its `maxlen`."""

    items: deque[int]
    session_length: int = 0
    """How many events about an item the current session has, also those that are kept no more."""
    session: int = NONE
    last_ts: int = -1

    def session_items(self) -> set[int]:
        """Items of the current session, up to the length of the history."""
        return set(list(self.items)[max(0, len(self.items) - self.session_length) :])

    def enter(self, item: int, ts: int, session: int) -> None:
        """Add one event, `ts` in UTC milliseconds. A search (item NONE) updates only the session and the time."""
        if self.last_ts < 0 or session_ends(self.session, session, ts - self.last_ts):
            self.session_length = 0
        self.session = session
        self.last_ts = max(self.last_ts, ts)
        if item != NONE:
            self.items.append(item)
            self.session_length += 1


class Histories:
    """Every user's history of up to `length` items, by user number."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._users: dict[int, ItemHistory] = {}

    def get(self, user: int) -> ItemHistory:
        """The user's history, empty at first."""
        history = self._users.get(user)
        if history is None:
            history = self._users[user] = ItemHistory(deque(maxlen=self._length))
        return history


def visits(log: EventLog) -> Iterator[tuple[int, int, int, int]]:
    """(user, item, ts, session) of every event in time order, as Python integers."""
    columns = (log.user, log.item, log.ts, log.session)
    return zip(*(column.tolist() for column in columns), strict=True)
