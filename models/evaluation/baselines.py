"""What a ranker must beat: popularity, the user's own counts, and the co-visit table. Each learns by the event."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection
from typing import Protocol

from models.co_visit.counts import ItemScores, top_items
from models.co_visit.model import CoVisitModel
from models.co_visit.rule import WEEK_MS
from models.data.event_log import NONE
from models.data.forward_decay import ForwardDecay


class Baseline(Protocol):
    """Predict, then learn. Items, users and sessions are numbers of an `EventLog`."""

    name: str

    def slate(self, user: int, k: int, exclude: Collection[int] = ()) -> list[int]:
        """The k best items for the user that are not excluded, best first."""
        ...

    def learn(self, user: int, item: int, ts: int, session: int = NONE) -> None:
        """Take in one event, `ts` in UTC milliseconds."""
        ...


class Popularity:
    """All users' decayed counts.

    Counts only grow, so the `held` best are kept in order and stay exact: an item can enter them only by its
    own event.
    """

    name = "popularity"

    def __init__(self, half_life_ms: int = WEEK_MS // 2, held: int = 512) -> None:
        self._decay = ForwardDecay(half_life_ms)
        self._held = held
        self._scores: ItemScores = {}
        self._top: list[tuple[float, int]] = []
        """(-score, item), best first."""

    def slate(self, user: int, k: int, exclude: Collection[int] = ()) -> list[int]:
        chosen: list[int] = []
        for _, item in self._top:
            if len(chosen) == k:
                break
            if item not in exclude:
                chosen.append(item)
        if len(chosen) < k and len(self._scores) > self._held:
            return top_items({item: score for item, score in self._scores.items() if item not in exclude}, k)
        return chosen

    def learn(self, user: int, item: int, ts: int, session: int = NONE) -> None:
        if item == NONE:
            return
        old = self._scores.get(item, 0.0)
        new = self._scores[item] = old + self._decay.weight(ts)
        at = bisect_left(self._top, (-old, item))
        if at < len(self._top) and self._top[at] == (-old, item):
            del self._top[at]
        insort(self._top, (-new, item))
        del self._top[self._held :]


class PersonalFrequency:
    """The user's own decayed counts; nothing for items the user never visited."""

    name = "personal_frequency"

    def __init__(self, half_life_ms: int = 8 * WEEK_MS) -> None:
        self._decay = ForwardDecay(half_life_ms)
        self._users: dict[int, ItemScores] = {}

    def slate(self, user: int, k: int, exclude: Collection[int] = ()) -> list[int]:
        own = self._users.get(user, {})
        return top_items({item: score for item, score in own.items() if item not in exclude}, k)

    def learn(self, user: int, item: int, ts: int, session: int = NONE) -> None:
        if item == NONE:
            return
        own = self._users.setdefault(user, {})
        own[item] = own.get(item, 0.0) + self._decay.weight(ts)


def baselines() -> tuple[Baseline, Baseline, Baseline]:
    """A fresh one of each."""
    return Popularity(), PersonalFrequency(), CoVisitModel()
