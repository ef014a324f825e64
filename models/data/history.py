"""Each user's newest items and current session, for models that learn event by event.

The history has the ranker's length, and sessions end by the ranker's rule.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from anabranch.ranking.user_state.layout import StateLayout
from models.data.event_log import NONE, EventLog
from models.data.session_rule import session_ends

_LENGTH = StateLayout().history


@dataclass
class ItemHistory:
    """One user's newest items, oldest first."""

    items: deque[int] = field(default_factory=lambda: deque(maxlen=_LENGTH))
    session_length: int = 0
    """How many of the newest items belong to the current session."""
    session: int = NONE
    last_ts: int = -1

    def session_items(self) -> set[int]:
        """Items of the current session, up to the length of the history."""
        return set(list(self.items)[len(self.items) - self.session_length :])

    def enter(self, item: int, ts: int, session: int) -> None:
        """Add one event, `ts` in UTC milliseconds. A search (item NONE) updates only the session and the time."""
        if self.last_ts < 0 or session_ends(self.session, session, ts - self.last_ts):
            self.session_length = 0
        self.session = session
        self.last_ts = max(self.last_ts, ts)
        if item != NONE:
            self.items.append(item)
            self.session_length = min(self.session_length + 1, _LENGTH)


class Histories:
    """Every user's history, by user number."""

    def __init__(self) -> None:
        self._users: dict[int, ItemHistory] = {}

    def get(self, user: int) -> ItemHistory:
        """The user's history, empty at first."""
        history = self._users.get(user)
        if history is None:
            history = self._users[user] = ItemHistory()
        return history


def visits(log: EventLog) -> Iterator[tuple[int, int, int, int]]:
    """(user, item, ts, session) of every event in time order, as Python integers."""
    columns = (log.user, log.item, log.ts, log.session)
    return zip(*(column.tolist() for column in columns), strict=True)
