"""The co-visit table: which items follow which, learned by the event.

Directed counts of item pairs that one user visited close together, weighted by the gap between them and decayed
with time. One class is the seed, the
source of the `neighbours` topic and the baseline that every release must beat.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection
from dataclasses import dataclass
from heapq import nlargest
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from anabranch.messages import UNKNOWN_REPEAT_RATE
from models.data.event_log import NONE, EventLog
from models.data.forward_decay import ForwardDecay
from models.data.history import Histories, UserHistory, visits
from models.seeds.seed import Vectors
from models.seeds.text_neighbours import TextNeighbours

WEEK_MS = 7 * 24 * 3600 * 1000
PROGRESS_EVERY = 1000

Row = dict[int, float]


@dataclass(frozen=True)
class CoVisitRule:
    """How pairs count. The numbers were tuned on one week of shuffled grocery baskets, after ten."""

    window: int = 20
    """Items before the event, in its session, that it is paired with."""
    across_window: int = 10
    """As `window`, for items of the sessions before."""
    across: float = 0.3
    """Weight of a pair that spans two sessions."""
    backward: float = 1.0
    """Weight of the pair (later → earlier). Below 1 where the order within a session means something."""
    gap_power: float = 0.0
    """A pair `gap` places apart weighs gap ** -gap_power. Above 0 where the order means something."""
    repeats: bool = False
    """Whether an item that comes again is a neighbour of itself."""
    half_life_ms: int = 8 * WEEK_MS
    damping: float = 3.0
    """Visits added to each item's co-visits when they become shares: one chance pair is no certainty."""
    text_prior: float = 0.0
    """Co-visits assumed of every item before any is seen, shared out among those that read most like it: an item that
    few have visited is found by its text, and what many have visited outweighs it."""
    row_bound: int = 128
    """Neighbours kept of an item; twice as many may stand until the weakest half goes."""
    recent: int = 12
    """Newest items of a user whose neighbours make the slate."""
    earlier_session: float = 0.5
    """Weight of those of them that are not of the current session."""
    repeat_prior: float = 5.0
    """Users assumed of every item, who come back to it at `UNKNOWN_REPEAT_RATE`."""


@dataclass(frozen=True)
class CoVisitTable:
    """Rows of n items: what the `neighbours` topic carries."""

    item: NDArray[np.int32]  # [n]
    neighbours: NDArray[np.int32]  # [n, width], strongest first, -1 padded
    share: NDArray[np.float32]  # [n, width], of the item's co-visits, 0 to 1
    popularity: NDArray[np.float32]  # [n], the item's share of all decayed visits
    first_seen: NDArray[np.int64]  # [n], UTC milliseconds
    repeat_rate: NDArray[np.float32]  # [n], share of the item's users who came back to it in a later session


class NeighbourCounts:
    """Decayed co-visits of one item: C arrays, which numpy reads in place, and where each neighbour stands in them."""

    __slots__ = ("_place", "counts", "items", "total")

    def __init__(self) -> None:
        self._place: dict[int, int] = {}
        self.items = array("i")
        self.counts = array("d")
        self.total = 0.0
        """Of all neighbours there ever were, kept or not."""

    def __len__(self) -> int:
        return len(self.items)

    def add(self, item: int, count: float) -> None:
        """Count a co-visit with `item`."""
        self.total += count
        place = self._place.get(item)
        if place is None:
            self._place[item] = len(self.items)
            self.items.append(item)
            self.counts.append(count)
        else:
            self.counts[place] += count

    def keep(self, n: int) -> None:
        """Forget all but the n strongest."""
        counts = dict(zip(self.items, self.counts, strict=True))
        strongest = best(counts, n)
        self._place = {item: place for place, item in enumerate(strongest)}
        self.items = array("i", strongest)
        self.counts = array("d", [counts[item] for item in strongest])


class CoVisit:
    """Counts pairs of item numbers, event by event. One table spans at most a thousand half-lives."""

    name = "co_visit"

    def __init__(self, rule: CoVisitRule | None = None) -> None:
        self.rule = rule or CoVisitRule()
        self._rows: dict[int, NeighbourCounts] = {}
        self._visits: Row = {}
        self._first_seen: dict[int, int] = {}
        self._returns = Returns()
        self._histories = Histories()
        self._decay = ForwardDecay(self.rule.half_life_ms)
        self._newest = 1.0
        """Weight of the newest event."""
        self._scratch: NDArray[np.float64] = np.zeros(1024)
        """Zero between calls: where `slate` sums."""
        reach = max(self.rule.window, self.rule.across_window)
        self._gap_weight = [(gap + 1) ** -self.rule.gap_power for gap in range(reach)]

    @classmethod
    def fit(
        cls, log: EventLog, rule: CoVisitRule | None = None, done: Callable[[int], None] = lambda n: None
    ) -> CoVisit:
        """Learn a whole log; `done(n)` is told of every n events done."""
        co_visit = cls(rule)
        co_visit.learn_all(log, done)
        return co_visit

    def learn_all(self, log: EventLog, done: Callable[[int], None] = lambda n: None) -> None:
        """Count every event of a log that numbers users and items like those before."""
        for at, (user, item, ts, session) in enumerate(visits(log), start=1):
            self.learn(user, item, ts, session)
            if at % PROGRESS_EVERY == 0:
                done(PROGRESS_EVERY)
        done(len(log) % PROGRESS_EVERY)

    def learn(self, user: int, item: int, ts: int, session: int = NONE) -> None:
        """Count one event; a search (item NONE) only moves the session."""
        history = self._histories.of(user)
        history.enter(NONE, ts, session)  # the session first, so that the pairs know whether they span two
        if item == NONE:
            return
        weight = self._decay.weight(ts)
        self._newest = max(self._newest, weight)
        self._visits[item] = self._visits.get(item, 0.0) + weight
        self._first_seen.setdefault(item, ts)
        self._returns.learn(user, item, history)
        self._pair(item, history, weight)
        history.enter(item, ts, session)

    def slate(self, user: int, k: int, exclude: Collection[int] = ()) -> list[int]:
        """The k items that go best with the user's newest ones, best first; ties go to the lower number."""
        items, shares = self._proposals(user)
        if not len(items):
            return []
        scores = self._scratch
        np.add.at(scores, items, shares)
        barred = [item for item in exclude if item < len(scores)]
        scores[barred] = 0
        top = _best_of(items, scores[items], k, self.rule.recent)
        scores[items] = 0
        return top

    def table(self, width: int = 20, text_vectors: Vectors | None = None) -> CoVisitTable:
        """The strongest `width` neighbours of every item seen, by item number. Raises `ValueError` before any event.

        With text vectors [C, T] of the catalogue, what reads alike counts as the rule's `text_prior` says.
        """
        if not self._visits:
            raise ValueError("a co-visit table that has learned nothing has no rows")
        texts = None if text_vectors is None or not self.rule.text_prior else TextNeighbours.of(text_vectors)
        items = sorted(self._visits)
        neighbours = np.full((len(items), width), -1, np.int32)
        share = np.zeros((len(items), width), np.float32)
        for at, item in enumerate(items):
            shares = self._shares(item, texts)
            top = best(shares, width)
            neighbours[at, : len(top)] = top
            share[at, : len(top)] = [shares[neighbour] for neighbour in top]
        visits = np.array([self._visits[item] for item in items])
        return CoVisitTable(
            item=np.array(items, np.int32),
            neighbours=neighbours,
            share=share,
            popularity=(visits / visits.sum()).astype(np.float32),
            first_seen=np.array([self._first_seen[item] for item in items], np.int64),
            repeat_rate=np.array([self._returns.rate(item, self.rule.repeat_prior) for item in items], np.float32),
        )

    def _proposals(self, user: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Neighbours of the user's newest items end to end, and their shares there; an item may stand in many."""
        rule, history = self.rule, self._histories.of(user)
        items, shares = [_NO_ITEMS], [_NO_SHARES]
        for place, item in enumerate(islice(reversed(history.items), rule.recent)):
            row = self._rows[item]
            weight = 1.0 if place < history.session_length else rule.earlier_session
            items.append(np.frombuffer(row.items, np.int32))
            shares.append(np.frombuffer(row.counts, np.float64) * (weight * self._unit(item)))
        return np.concatenate(items), np.concatenate(shares)

    def _pair(self, item: int, history: UserHistory, weight: float) -> None:
        """Count the event's pairs with the items before it."""
        rule, own = self.rule, self._row(item)
        for gap, earlier in enumerate(reversed(history.items)):
            within = gap < history.session_length
            if gap >= (rule.window if within else rule.across_window):
                break
            if earlier == item and not rule.repeats:
                continue
            pair = weight * self._gap_weight[gap] * (1.0 if within else rule.across)
            row = self._rows[earlier]
            row.add(item, pair)
            if len(row) > 2 * rule.row_bound:
                row.keep(rule.row_bound)
            if rule.backward and earlier != item:
                own.add(earlier, pair * rule.backward)
        if len(own) > 2 * rule.row_bound:
            own.keep(rule.row_bound)

    def _row(self, item: int) -> NeighbourCounts:
        row = self._rows.get(item)
        if row is None:
            row = self._rows[item] = NeighbourCounts()
            if item >= len(self._scratch):
                self._scratch = np.zeros(2 * item)
        return row

    def _shares(self, item: int, texts: TextNeighbours | None) -> Row:
        """Every neighbour's share of an item's co-visits, those assumed by its text among them."""
        row, assumed = self._rows[item], {} if texts is None else texts.of_item(item)
        counts = dict(zip(row.items, row.counts, strict=True))
        prior = self.rule.text_prior * self._newest if assumed else 0.0
        for neighbour, part in assumed.items():
            counts[neighbour] = counts.get(neighbour, 0.0) + prior * part
        unit = self._unit(item, prior)
        return {neighbour: count * unit for neighbour, count in counts.items()}

    def _unit(self, item: int, prior: float = 0.0) -> float:
        """One count of an item's row as a share."""
        whole = self._rows[item].total + self.rule.damping * self._visits[item] + prior
        return 1.0 / whole if whole else 0.0


class Returns:
    """How many of an item's users came back to it in a later session."""

    def __init__(self) -> None:
        self._came_back: dict[int, dict[int, bool]] = {}
        """User → item → whether the user has come back."""
        self._users: dict[int, int] = {}
        self._returned: dict[int, int] = {}

    def learn(self, user: int, item: int, before: UserHistory) -> None:
        """Take in a visit; `before` is the user's history, the visit's session begun."""
        own = self._came_back.setdefault(user, {})
        if item not in own:
            own[item] = False
            self._users[item] = self._users.get(item, 0) + 1
        elif not own[item] and item not in before.session_items():
            own[item] = True
            self._returned[item] = self._returned.get(item, 0) + 1

    def rate(self, item: int, prior: float) -> float:
        """Share of the item's users who came back, `prior` more users at the usual rate counted in."""
        returned = self._returned.get(item, 0) + prior * UNKNOWN_REPEAT_RATE
        return returned / (self._users.get(item, 0) + prior)


def best(scores: Row, k: int) -> list[int]:
    """The k items of greatest score, best first; ties go to the lower number."""
    return [-item for _, item in nlargest(k, ((score, -item) for item, score in scores.items()))]


def _best_of(items: NDArray[np.int32], scores: NDArray[np.float64], k: int, copies: int) -> list[int]:
    """As `best`, of items [n] that may stand up to `copies` times, each time with the same score; 0 is no score."""
    wanted = min(k * copies, len(items))
    threshold = np.partition(scores, len(scores) - wanted)[len(scores) - wanted]
    among = (scores >= threshold) & (scores > 0)
    chosen, first = np.unique(items[among], return_index=True)
    return [int(item) for item in chosen[np.lexsort((chosen, -scores[among][first]))[:k]]]


_NO_ITEMS = np.empty(0, np.int32)
_NO_SHARES = np.empty(0, np.float64)
