"""What each user did last, as item numbers: the ranker's ring and session rule, for models that learn by the event."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from anabranch.ranking.user_state.store import StateLayout
from anabranch.ranking.user_state.update import SESSION_GAP_MS
from models.data.event_log import NONE, EventLog

_RING = StateLayout().history


@dataclass
class UserHistory:
    """One user's newest items, oldest first, and where the current session begins among them."""

    items: deque[int] = field(default_factory=lambda: deque(maxlen=_RING))
    session_length: int = 0
    session: int = NONE
    last_ts: int = -1

    def session_items(self) -> set[int]:
        """Items of the current session, as far as the ring remembers them."""
        return set(list(self.items)[len(self.items) - self.session_length :])

    def enter(self, item: int, ts: int, session: int) -> None:
        """Enter one event; a search (item NONE) moves the session and the clock only.

        A session ends when another is named, or, where none is, after half an hour's pause: the rule of
        `anabranch.ranking.user_state.update.observe`.
        """
        pauses = session == NONE and ts - self.last_ts > SESSION_GAP_MS
        if self.last_ts < 0 or session != self.session or pauses:
            self.session_length = 0
        self.session = session
        self.last_ts = max(self.last_ts, ts)
        if item != NONE:
            self.items.append(item)
            self.session_length = min(self.session_length + 1, _RING)


class Histories:
    """Every user's history, by user number."""

    def __init__(self) -> None:
        self._users: dict[int, UserHistory] = {}

    def get(self, user: int) -> UserHistory:
        """The user's history, blank at first sight."""
        history = self._users.get(user)
        if history is None:
            history = self._users[user] = UserHistory()
        return history


def visits(log: EventLog) -> Iterator[tuple[int, int, int, int]]:
    """(user, item, ts, session) of every event, as Python numbers, in order of time."""
    columns = (log.user, log.item, log.ts, log.session)
    return zip(*(column.tolist() for column in columns), strict=True)
