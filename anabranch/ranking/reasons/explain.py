"""The reasons of a user's slates: where an item comes from, what its score is made of, and which rules moved it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from anabranch.ranking.pipeline.features import FEATURES, build_features
from anabranch.ranking.pipeline.servable import ServableRelease
from anabranch.ranking.pipeline.slates import ScoredCandidates, make_slates
from anabranch.ranking.policy import Policy
from anabranch.ranking.reasons.shapley import Contributions, contributions
from anabranch.ranking.retrieval.candidate_columns import BY_INDEX, BY_POPULARITY, Candidates
from anabranch.ranking.retrieval.candidates import propose
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.retrieval.retrieve import retrieve
from anabranch.ranking.types import Floats, Positions, Rows
from anabranch.ranking.user_state.layout import StateLayout
from anabranch.ranking.user_state.snapshot import UserSnapshots

FEATURE_GROUPS: dict[str, tuple[str, ...]] = {
    "taste": ("inner_product", "below_best", "like_last", "like_recent"),
    "visited together": ("co_visit_last", "co_visit_recent", "co_visit_session"),
    "own events": ("own", "own_share", "own_count", "own_since", "own_due", "repeat_rate"),
    "popularity": ("popularity", "age"),
    "this session": ("session_length", "session_since", "session_count", "session_category"),
}
"""What the score of an item is told by: the user's vector, co-visits, the user's events about the item, how popular and
new it is, and the session."""


@dataclass(frozen=True)
class OwnEvents:
    """The user has had events about the item."""

    count: int
    newest_s: int
    """Seconds since 1970."""


@dataclass(frozen=True)
class Neighbour:
    """The item is a neighbour of one of the user's newest items: of the one that adds most to its co-visit score."""

    of: int
    """Row of that item."""
    since_s: int
    """When the user's event about that was, in seconds since 1970."""
    share: float
    """Of that item's co-visits, 0 to 1."""


@dataclass(frozen=True)
class Near:
    """The item is among those that the index finds for the user's vector."""

    place: int
    """From 1."""


@dataclass(frozen=True)
class Popular:
    """The item is one of the most popular ones."""


Source = OwnEvents | Neighbour | Near | Popular


@dataclass(frozen=True)
class Reason:
    """Why an item stands on a slate."""

    item: int
    """Its row."""
    score: float
    """As published."""
    sources: tuple[Source, ...]
    """What proposed it; nothing, if only a rule did."""
    base: float
    """The mean score of the candidates."""
    contributions: dict[str, float]
    """By group of features (`FEATURE_GROUPS`). With `base` and `by_rules` they add up to the score."""
    by_rules: float
    """What rules add to the score."""
    rests: bool
    """Whether the user was shown the item often enough: it stands behind all others."""


@dataclass(frozen=True)
class ExplainedRanking:
    """The ranking of one user, and all that it is made of."""

    live: ServableRelease
    co_visits: CoVisitRows
    query: UserSnapshots
    """Of one user."""
    policy: Policy
    layout: StateLayout

    @cached_property
    def slates(self) -> Rows:
        """[P, slate] as the ranker makes them, -1 padded"""
        slates = make_slates(self.live, self.co_visits, self.query, self.policy, self.layout, lambda stage: None)
        items: Rows = slates.items[0]
        return items

    def reasons(self, placement: int) -> list[Reason]:
        """Of each item on the slate of the placement of this number, in its order."""
        return self.reasons_of(placement, self.slates[placement])

    def reasons_of(self, placement: int, items: Rows) -> list[Reason]:
        """Of items [k] of a slate, in their order; -1 is left out. Raises `KeyError` for an item that is no candidate.

        Scores of k items are computed 2,048 k times at most.
        """
        chosen = [self._candidate[item] for item in items[items >= 0].tolist()]
        if not chosen:
            return []
        made_of = self._contributions(np.array(chosen))
        added, resting = self._added_by_rules(placement), self._scored.resting(self.policy, placement)
        scores = self._scored.scores[chosen] + added[chosen]
        return [
            Reason(
                item=int(self._candidates.item[c]),
                score=float(scores[k]),
                sources=tuple(self._sources(c)),
                base=made_of.base,
                contributions=dict(zip(FEATURE_GROUPS, made_of.by_group[k].tolist(), strict=True)),
                by_rules=float(added[c]),
                rests=bool(resting[c]),
            )
            for k, c in enumerate(chosen)
        ]

    @cached_property
    def _candidates(self) -> Candidates:
        return propose(self.query, self.live.index, self.co_visits, self.policy, self.layout.half_life_s)

    @cached_property
    def _candidate(self) -> dict[int, int]:
        """Which candidate each item is."""
        return {item: c for c, item in enumerate(self._candidates.item.tolist())}

    @cached_property
    def _features(self) -> Floats:
        compared = self.policy.first_classes
        return build_features(self.query, self._candidates, self.live.index, self.co_visits, compared)

    @cached_property
    def _scored(self) -> ScoredCandidates:
        return ScoredCandidates.by_features(self.live, self.query, self._candidates, self._features)

    @cached_property
    def _retrieved(self) -> list[int]:
        """What the index finds, best first; not all of it is proposed."""
        retrieved: list[int] = retrieve(self.live.index, self.query, self.policy)[0].tolist()
        return retrieved

    def _contributions(self, chosen: Positions) -> Contributions:
        groups = [np.array([FEATURES.index(name) for name in names]) for names in FEATURE_GROUPS.values()]
        return contributions(self.live.order.score, self._features[chosen], self._features, groups)

    def _added_by_rules(self, placement: int) -> Floats:
        """[N] to the score of each candidate"""
        added = self.policy.rules.effects.added
        return added[placement, self._candidates.item] if len(added) else np.zeros(len(self._features), np.float32)

    def _sources(self, c: int) -> Iterator[Source]:
        item = int(self._candidates.item[c])
        if self._candidates.own_count[c] > 0:
            yield OwnEvents(int(self._candidates.own_count[c]), int(self._candidates.own_last_s[c]))
        neighbour = self._strongest_neighbour(item)
        if neighbour is not None:
            yield neighbour
        if self._candidates.proposed_by[c] & BY_INDEX:
            yield Near(self._retrieved.index(item) + 1)
        if self._candidates.proposed_by[c] & BY_POPULARITY:
            yield Popular()

    def _strongest_neighbour(self, item: int) -> Neighbour | None:
        strongest, most = None, 0.0
        weights = self.policy.co_visit_scoring.weights[: self.layout.history]
        for back, weight in enumerate(weights):
            newest = int(self.query.recent[0, back])
            share = self._share(newest, item)
            if weight * share > most:
                strongest, most = Neighbour(newest, int(self.query.recent_s[0, back]), share), weight * share
        return strongest

    def _share(self, of: int, item: int) -> float:
        """The share of an item among another's co-visits, 0 if it is no neighbour of that."""
        rows, weights = self.co_visits.columns.rows, self.co_visits.columns.weights
        if not 0 <= of < len(rows):
            return 0.0
        return float(weights[of][rows[of] == item].sum())
