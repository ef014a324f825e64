"""What a baseline is, and the simplest two: popularity, and the user's own item counts."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from anabranch.co_visit_rule import WEEK_MS
from anabranch.forward_decay import ForwardDecay
from models.co_visit.scored_items import ItemScores, top_items
from models.data.event_log import NONE


class Scored(Protocol):
    """Items in order, from which slates are taken before the baseline learns the next event."""

    def top(self, k: int, exclude: Collection[int] = (), among: Collection[int] | None = None) -> list[int]:
        """The k best items that are not excluded, of all or `among` some, best first."""
        ...


class Baseline(Protocol):
    """A ranker that predicts and then learns each event. Items, users and sessions are numbers of an `EventLog`."""

    name: str

    def scored(self, user: int) -> Scored:
        """The items for the user."""
        ...

    def learn(self, user: int, item: int, ts: int, session: int = NONE) -> None:
        """Learn one event, `ts` in UTC milliseconds."""
        ...


class Popularity:
    """Items by all users' exponentially decayed event counts.

    Decayed scores are stored relative to one origin and only grow, so the `cached` best items can be kept in order: an
    item can enter them only when it has an event.
    """

    name = "popularity"

    def __init__(self, half_life_ms: int = WEEK_MS // 2, cached: int = 512) -> None:
        self._decay = ForwardDecay(half_life_ms, self._rescale)
        self._cached = cached
        self._scores: ItemScores = {}
        self._top: list[tuple[float, int]] = []
        """(-score, item), best first."""

    def scored(self, user: int) -> Popularity:
        """The same for every user."""
        return self

    def top(self, k: int, exclude: Collection[int] = (), among: Collection[int] | None = None) -> list[int]:
        """See `Scored`."""
        if among is not None:
            return top_items(_admitted(self._scores, exclude, among), k)
        slate: list[int] = []
        for _, item in self._top:
            if len(slate) == k:
                break
            if item not in exclude:
                slate.append(item)
        if len(slate) < k and len(self._scores) > self._cached:
            return top_items(_admitted(self._scores, exclude), k)
        return slate

    def learn(self, user: int, item: int, ts: int, session: int = NONE) -> None:
        if item == NONE:
            return
        weight = self._decay.weight(ts)
        old = self._scores.get(item, 0.0)
        new = self._scores[item] = old + weight
        index = bisect_left(self._top, (-old, item))
        if index < len(self._top) and self._top[index] == (-old, item):
            del self._top[index]
        insort(self._top, (-new, item))
        del self._top[self._cached :]

    def _rescale(self, factor: float) -> None:
        self._scores = {item: score * factor for item, score in self._scores.items()}
        self._top = sorted((score * factor, item) for score, item in self._top)


@dataclass(frozen=True)
class OwnCounts:
    """Items of one user."""

    scores: ItemScores

    def top(self, k: int, exclude: Collection[int] = (), among: Collection[int] | None = None) -> list[int]:
        """See `Scored`."""
        return top_items(_admitted(self.scores, exclude, among), k)


class PersonalFrequency:
    """Items by the user's own exponentially decayed event counts; other items are never ranked."""

    name = "personal_frequency"

    def __init__(self, half_life_ms: int = 8 * WEEK_MS) -> None:
        self._decay = ForwardDecay(half_life_ms, self._rescale)
        self._users: dict[int, ItemScores] = {}

    def scored(self, user: int) -> OwnCounts:
        """The user's own items."""
        return OwnCounts(self._users.get(user, {}))

    def learn(self, user: int, item: int, ts: int, session: int = NONE) -> None:
        if item == NONE:
            return
        weight = self._decay.weight(ts)
        own = self._users.setdefault(user, {})
        own[item] = own.get(item, 0.0) + weight

    def _rescale(self, factor: float) -> None:
        for user, scores in self._users.items():
            self._users[user] = {item: score * factor for item, score in scores.items()}


def _admitted(scores: ItemScores, exclude: Collection[int], among: Collection[int] | None = None) -> ItemScores:
    """The scores of the items that are not excluded, and `among` those given."""
    items = scores if among is None else (item for item in among if item in scores)
    return {item: scores[item] for item in items if item not in exclude}
