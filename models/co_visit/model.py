"""The co-visit model: which items follow which, learned event by event.

It counts directed pairs of items that one user visited close together, weighted by the gap between them and decayed
with time. The same model is a seed model, the source of the `neighbours` topic, and the baseline of the gate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import numpy as np
from numpy.typing import NDArray

from anabranch.co_visit_scoring import CoVisitScoring
from anabranch.messages import UNKNOWN_REPEAT_RATE
from models.co_visit.counts import ItemScores, NeighbourCounts, ScoredItems, top_items
from models.co_visit.repeat_rates import RepeatRates
from models.co_visit.rule import CoVisitRule
from models.co_visit.table import CoVisitTable
from models.co_visit.text_neighbours import TextNeighbours
from models.data.event_log import DAY_MS, NONE, EventLog
from models.data.forward_decay import ForwardDecay
from models.data.history import Histories, ItemHistory, visits
from models.data.unusual_users import unusual_users

PROGRESS_EVERY = 1000


class CoVisitModel:
    """Pair counts by item number."""

    name = "co_visit"

    def __init__(
        self,
        rule: CoVisitRule | None = None,
        scoring: CoVisitScoring | None = None,
        text_vectors: NDArray[np.float32] | None = None,
    ) -> None:
        """With text vectors [C, T] of the catalogue, whose rows are item numbers, the rule's `text_prior` is added."""
        self.rule = rule or CoVisitRule()
        self.scoring = scoring or CoVisitScoring()
        self._texts: TextNeighbours | None = None
        if text_vectors is not None and self.rule.text_prior:
            self._texts = TextNeighbours.from_text_vectors(text_vectors)
        self._rows: dict[int, NeighbourCounts] = {}
        self._visits: ItemScores = {}
        self.unusual_users: frozenset[int] = frozenset()
        """Users who leave no trace in the counts. They have slates like others."""
        self._counted: dict[int, ItemScores] = {}
        """User → item → what the user's visits of the item count together."""
        self._first_seen: dict[int, int] = {}
        self._repeat_rates = RepeatRates()
        self._histories = Histories(self.rule.history)
        self._decay = ForwardDecay(self.rule.half_life_ms, self._rescale)
        self._newest_weight = 1.0
        """Weight of the newest event."""
        self._scratch: NDArray[np.float64] = np.zeros(1024)
        """Buffer in which `slate` sums scores; all zeros between calls."""
        self._gap_weight = [(gap + 1) ** -self.rule.gap_power for gap in range(self.rule.window)]

    def fit(self, log: EventLog, done: Callable[[int], None] = lambda n: None) -> Self:
        """Learn a whole log, but for its unusual users; returns the model. `done(n)` is called after every n events."""
        self.unusual_users = unusual_users(log)
        for count, (user, item, ts, session) in enumerate(visits(log), start=1):
            self.learn(user, item, ts, session)
            if count % PROGRESS_EVERY == 0:
                done(PROGRESS_EVERY)
        done(len(log) % PROGRESS_EVERY)
        return self

    def learn(self, user: int, item: int, ts: int, session: int = NONE) -> None:
        """Count one event, `ts` in UTC milliseconds. A search (item NONE) only updates the session."""
        history = self._histories.get(user)
        history.enter(NONE, ts, session)  # before pairing, which must know whether a pair spans two sessions
        if item == NONE:
            return
        if user not in self.unusual_users:
            self._count(user, item, ts, history)
        history.enter(item, ts, session)

    def _count(self, user: int, item: int, ts: int, history: ItemHistory) -> None:
        """Count one visit; `history` is the user's before it."""
        newest = self._decay.weight(ts)
        self._newest_weight = max(self._newest_weight, newest)
        weight = self._take_from_cap(user, item, newest)
        self._visits[item] = self._visits.get(item, 0.0) + weight
        self._first_seen.setdefault(item, ts)
        self._repeat_rates.learn(user, item, history)
        self._count_pairs(user, item, history, weight)

    def scored(self, user: int) -> ScoredItems:
        """Items by the rule of `CoVisitScoring`.

        Pairs of fewer than the rule's `min_users` do not count, as in the table: a baseline must not know what may not
        be served.
        """
        items, shares = self._neighbours(user)
        if items.max(initial=0) >= len(self._scratch):
            self._scratch = np.zeros(2 * int(items.max()))
        return ScoredItems.summed(items, shares, self._scratch)

    def table(self, width: int = 20) -> CoVisitTable:
        """The strongest `width` neighbours of every item seen, by item number.

        Without events it has no rows. An item that fewer than the rule's `min_users` visited has the day of its first
        visit, and neighbours by text.
        """
        items = sorted(self._visits)
        neighbours = np.full((len(items), width), -1, np.int32)
        share = np.zeros((len(items), width), np.float32)
        for row, item in enumerate(items):
            shares = self._shares(item)
            top = top_items(shares, width)
            neighbours[row, : len(top)] = top
            share[row, : len(top)] = [shares[neighbour] for neighbour in top]
        visit_counts = np.array([self._visits[item] for item in items])
        first_seen = np.array([self._first_seen[item] for item in items], np.int64)
        repeat_rate = np.array([self._repeat_rates.rate(item, self.rule.repeat_prior) for item in items], np.float32)
        shared = np.array([self._repeat_rates.users(item) >= self.rule.min_users for item in items], np.bool_)
        return CoVisitTable(
            item=np.array(items, np.int32),
            neighbours=neighbours,
            share=share,
            popularity=np.where(shared, visit_counts / max(visit_counts.sum(), 1.0), 0).astype(np.float32),
            first_seen=np.where(shared, first_seen, first_seen - first_seen % DAY_MS),
            repeat_rate=np.where(shared, repeat_rate, np.float32(UNKNOWN_REPEAT_RATE)),
        )

    def _neighbours(self, user: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """The user's newest items and their neighbours, concatenated, and their weighted shares.

        An item occurs at most twice for each of the newest items.
        """
        recent = np.array([*reversed(self._histories.get(user).items)][: self.scoring.recent], np.int32)
        weights = self.scoring.weights[: len(recent)]
        items, shares = [recent], [self.scoring.own_share * np.array(weights)]
        for item, weight in zip(recent.tolist(), weights, strict=True):
            neighbours, share = self._row_shares(item)
            items.append(neighbours)
            shares.append(weight * share)
        return np.concatenate(items), np.concatenate(shares)

    def _take_from_cap(self, user: int, item: int, weight: float) -> float:
        """What a visit counts: its weight, or less where the user's visits of the item have reached `user_cap`."""
        counted = self._counted.setdefault(user, {})
        before = counted.get(item, 0.0)
        taken = min(weight, max(0.0, self.rule.user_cap * weight - before))
        counted[item] = before + taken
        return taken

    def _count_pairs(self, user: int, item: int, history: ItemHistory, weight: float) -> None:
        """Count the pairs of one event with the items before it, each of them once: with its newest visit."""
        rule, own = self.rule, self._row(item)
        if not weight:
            return
        paired: set[int] = set()
        for gap, (gap_weight, earlier) in enumerate(zip(self._gap_weight, reversed(history.items), strict=False)):
            is_across = gap >= history.session_length
            if is_across and not rule.across:
                break
            if earlier in paired or earlier == item:
                continue
            paired.add(earlier)
            pair = weight * gap_weight * (rule.across if is_across else 1.0)
            row = self._rows[earlier]
            row.add(item, pair, user)
            if len(row) > 2 * rule.row_bound:
                row.prune(rule.row_bound)
            if rule.backward:
                own.add(earlier, pair * rule.backward, user)
        if len(own) > 2 * rule.row_bound:
            own.prune(rule.row_bound)

    def _rescale(self, factor: float) -> None:
        self._visits = {item: count * factor for item, count in self._visits.items()}
        self._newest_weight *= factor
        self._counted = {
            user: {item: count * factor for item, count in counted.items()} for user, counted in self._counted.items()
        }
        for row in self._rows.values():
            row.scale(factor)

    def _row(self, item: int) -> NeighbourCounts:
        row = self._rows.get(item)
        if row is None:
            row = self._rows[item] = NeighbourCounts()
        return row

    def _row_shares(self, item: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Neighbours of an item, and their shares of its co-visits, the text prior included.

        A neighbour by visits and by text occurs twice.
        """
        row = self._rows.get(item)
        if row is None:
            return _NO_ITEMS, _NO_SHARES
        items, counts = np.frombuffer(row.items, np.int32), row.shared_counts(self.rule.min_users)
        prior = 0.0
        if self._texts is not None:
            by_text, text_share = self._texts.row(item)
            prior = self.rule.text_prior * self._newest_weight if len(by_text) else 0.0
            items = np.concatenate([items, by_text])
            counts = np.concatenate([counts, prior * text_share.astype(np.float64)])  # the prior may be beyond float32
        total = row.total + self.rule.damping * self._visits[item] + prior
        return items, counts / total if total else counts

    def _shares(self, item: int) -> ItemScores:
        """Neighbour → share, of those that have one."""
        shares: ItemScores = {}
        for neighbour, share in zip(*(column.tolist() for column in self._row_shares(item)), strict=True):
            if share:
                shares[neighbour] = shares.get(neighbour, 0.0) + share
        return shares


_NO_ITEMS = np.empty(0, np.int32)
_NO_SHARES = np.empty(0, np.float64)
