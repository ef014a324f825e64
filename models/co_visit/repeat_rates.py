"""Repeat rate: the share of an item's users who return to it in a later session."""

from __future__ import annotations

from anabranch.messages import UNKNOWN_REPEAT_RATE
from models.data.history import ItemHistory


class RepeatRates:
    """Counts, per item, its users and those of them who returned."""

    def __init__(self) -> None:
        self._has_returned: dict[int, dict[int, bool]] = {}
        """User → item → whether the user has returned to it."""
        self._users: dict[int, int] = {}
        self._returned: dict[int, int] = {}

    def learn(self, user: int, item: int, history: ItemHistory) -> None:
        """Count one visit. `history` is the user's before the visit, with the visit's session already begun."""
        own = self._has_returned.setdefault(user, {})
        if item not in own:
            own[item] = False
            self._users[item] = self._users.get(item, 0) + 1
        elif not own[item] and item not in history.session_items():
            own[item] = True
            self._returned[item] = self._returned.get(item, 0) + 1

    def users(self, item: int) -> int:
        """Number of users who visited the item."""
        return self._users.get(item, 0)

    def rate(self, item: int, prior: float) -> float:
        """Share of the item's users who returned, smoothed with `prior` users at `UNKNOWN_REPEAT_RATE`."""
        returned = self._returned.get(item, 0) + prior * UNKNOWN_REPEAT_RATE
        return returned / (self._users.get(item, 0) + prior)
