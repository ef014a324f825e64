"""Slates: candidates proposed, described by features, scored, and the best of each query taken, or some explored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anabranch.placements import Placement
from anabranch.ranking.item_classes import item_classes
from anabranch.ranking.pipeline.best_candidates import BestCandidates, place_pins, top_k_per_query
from anabranch.ranking.pipeline.exploration import DISPLACED, Places, candidates_needed, explore, put_new_items
from anabranch.ranking.pipeline.features import build_features
from anabranch.ranking.pipeline.rotation import Impressions, impressions_of
from anabranch.ranking.pipeline.servable import ServableRelease
from anabranch.ranking.pipeline.varied_candidates import Variety, varied_top_k_per_query
from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.candidate_columns import BY_NEWNESS, BY_REQUEST, BY_RULES, Candidates
from anabranch.ranking.retrieval.candidates import propose
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.retrieval.item_index import ItemColumns
from anabranch.ranking.rules_in_force import RulesInForce
from anabranch.ranking.types import Counts, Floats, Mask, Positions, Rows
from anabranch.ranking.user_state.layout import StateLayout
from anabranch.ranking.user_state.snapshot import UserSnapshots

Lap = Callable[[str], None]
"""Called with the name of a stage at its end."""


@dataclass(frozen=True)
class Slates:
    """The slates of n queries for P placements, best item first."""

    items: Rows
    """[n, P, slate] -1 padded"""
    scores: Floats
    """[n, P, slate]"""
    explored: Places
    """[n] of the first placement: the others have no explored places"""
    explored_new: Places
    """[n] how many of these have a new item"""
    resting: Counts
    """[n] candidates that rest, those of all placements added up"""
    purchase: Floats | None
    """[n, slate] probability that the user buys each item of the first placement; None: not wanted, or no such head"""

    @classmethod
    def concatenate(cls, parts: Sequence[Slates]) -> Slates:
        """The slates of all parts, of which there is at least one."""
        purchases = [part.purchase for part in parts if part.purchase is not None]
        return cls(
            items=np.concatenate([part.items for part in parts]),
            scores=np.concatenate([part.scores for part in parts]),
            explored=np.concatenate([part.explored for part in parts]),
            explored_new=np.concatenate([part.explored_new for part in parts]),
            resting=np.concatenate([part.resting for part in parts]),
            purchase=np.concatenate(purchases) if purchases else None,
        )


def make_slates(
    live: ServableRelease,
    co_visits: CoVisitRows,
    queries: UserSnapshots,
    policy: Policy,
    layout: StateLayout,
    lap: Lap,
) -> Slates:
    """The slates of n queries, of the length that the `layout` of the users' states has room for.

    The candidates are made and scored once; each placement takes the best of those that it shows.
    """
    candidates = propose(queries, live.index, co_visits, policy, layout.half_life_s)
    lap("retrieve")
    features = build_features(queries, candidates, live.index, co_visits, policy.first_classes)
    lap("features")
    scored = ScoredCandidates.by_features(live, queries, candidates, features)
    placed, explored = _place(scored, queries, policy, layout.slate)
    purchase = _purchase_probabilities(live, features, placed[0].candidate) if policy.purchase else None
    lap("order")
    return Slates(
        items=np.stack([of_placement.items for of_placement in placed], axis=1),
        scores=np.stack([of_placement.scores for of_placement in placed], axis=1),
        explored=explored,
        explored_new=scored.count_new(placed[0], explored),
        resting=scored.count_resting(policy),
        purchase=purchase,
    )


class RequestedSlates(NamedTuple):
    """The slates of n queries for P placements, with what proposed each item."""

    items: Rows
    """[n, P, slate] -1 padded"""
    scores: Floats
    """[n, P, slate]"""
    proposed_by: NDArray[np.uint8]
    """[n, P, slate] the sources of each item, one bit each, see `candidate_columns`; 0 where there is none"""


def requested_slates(
    live: ServableRelease, co_visits: CoVisitRows, queries: UserSnapshots, policy: Policy, layout: StateLayout
) -> RequestedSlates:
    """The slates of n queries as `make_slates` makes them, without explored places: nothing is learned from them."""
    policy = replace(policy, explore_places=0)
    candidates = propose(queries, live.index, co_visits, policy, layout.half_life_s)
    features = build_features(queries, candidates, live.index, co_visits, policy.first_classes)
    scored = ScoredCandidates.by_features(live, queries, candidates, features)
    placed, _ = _place(scored, queries, policy, layout.slate)
    proposed_by = np.append(_sources(candidates, policy.rules), np.uint8(0))  # the last one is that of candidate -1
    return RequestedSlates(
        items=np.stack([of_placement.items for of_placement in placed], axis=1),
        scores=np.stack([of_placement.scores for of_placement in placed], axis=1),
        proposed_by=np.stack([proposed_by[of_placement.candidate] for of_placement in placed], axis=1),
    )


def _sources(candidates: Candidates, rules: RulesInForce) -> NDArray[np.uint8]:
    """[N] what proposed each candidate: `propose` takes what a request asks for as it takes pinned items."""
    if not len(rules.proposed):
        return candidates.proposed_by
    of_request = (candidates.proposed_by & BY_RULES > 0) & ~np.isin(candidates.item, rules.pinned_items)
    of_rules = np.uint8(BY_RULES)
    return np.where(of_request, candidates.proposed_by & ~of_rules | np.uint8(BY_REQUEST), candidates.proposed_by)


@dataclass(frozen=True)
class ScoredCandidates:
    """The N candidates of n queries, scored."""

    queries: UserSnapshots
    candidates: Candidates
    scores: Floats  # [N]
    items: ItemColumns

    @classmethod
    def by_features(
        cls, live: ServableRelease, queries: UserSnapshots, candidates: Candidates, features: Floats
    ) -> ScoredCandidates:
        """Score the candidates of queries by their features [N, F]."""
        return cls(queries, candidates, live.order.score(features), live.index.columns)

    @property
    def n(self) -> int:
        """The number of queries."""
        return len(self.queries.now)

    @cached_property
    def classes(self) -> Counts:
        """[N] the class of each candidate's item."""
        return item_classes(self.candidates.own_count, self.candidates.session_count)

    @cached_property
    def is_new(self) -> Mask:
        """[N] whether each was proposed as a new item to explore."""
        return self.candidates.proposed_by & BY_NEWNESS > 0

    def count_new(self, slates: BestCandidates, explored: Places) -> Places:
        """How many of the last `explored` [n] places of slates [n, k] have a new item."""
        is_explored = np.arange(slates.candidate.shape[1]) >= slates.candidate.shape[1] - explored[:, None]
        is_new = np.append(self.is_new, False)[slates.candidate]  # also of -1, where there is no candidate
        count: Places = (is_explored & is_new).sum(axis=1, dtype=np.uint8)
        return count

    @cached_property
    def impressions(self) -> Impressions:
        """How the candidates were shown to their users."""
        return impressions_of(self.queries, self.candidates.query, self.candidates.item)

    def resting(self, policy: Policy, placement: int) -> Mask:
        """[N] which candidates rest at a placement: what is pinned there does not."""
        rotation = policy.placements[placement].rotation
        if rotation is None:
            return np.zeros(len(self.scores), np.bool_)
        resting = self.impressions.resting(rotation)
        if placement in policy.rules.pins:
            resting &= ~np.isin(self.candidates.item, policy.rules.pins[placement].item)
        return resting

    def count_resting(self, policy: Policy) -> Counts:
        """How many candidates of each query [n] rest, those of all placements added up."""
        count = np.zeros(self.n, np.int32)
        for number, placement in enumerate(policy.placements):
            if placement.rotation is not None:
                np.add.at(count, self.candidates.query[self.resting(policy, number)], 1)
        return count

    @cached_property
    def is_for_slates(self) -> Mask:
        """[N] all but those that were proposed to be explored alone."""
        is_for_slates: Mask = self.candidates.proposed_by != BY_NEWNESS
        return is_for_slates

    def best(
        self, policy: Policy, placement: int, k: int, among: Mask | None = None, slate: int | None = None
    ) -> BestCandidates:
        """The best k of each query for the placement of this number, among some candidates [N]; None: those for slates.

        A score is that of the list ranker and what rules add to it. What rests comes last, and only on the slate.
        Pinned items stand where rules say. The first `slate` of the best are a slate, varied if the placement is, and
        the others come next; None: all of them are.
        """
        eligible, scores = policy.shows(policy.placements[placement])[self.classes], self.scores
        eligible &= self.is_for_slates if among is None else among
        effects = policy.rules.effects
        if len(effects.added):
            eligible &= ~effects.hidden[placement, self.candidates.item]
            scores = scores + effects.added[placement, self.candidates.item]
        length, resting = k if slate is None else slate, eligible & self.resting(policy, placement)
        best = self._choose(policy.placements[placement], scores, eligible & ~resting, k, length)
        if resting.any():
            best = best.filled_up(self._choose(policy.placements[placement], scores, resting, k, length), length)
        if placement in policy.rules.pins:
            place_pins(scores, eligible & ~resting, self.candidates, policy.rules.pins[placement], best)
        return best

    def _choose(self, placement: Placement, scores: Floats, eligible: Mask, k: int, slate: int) -> BestCandidates:
        """The best k of each query among the eligible candidates [N], of which the first make a `slate`."""
        best, found = BestCandidates.empty(self.n, k), self.candidates
        if placement.is_varied:
            varied_top_k_per_query(scores, eligible, found, self.variety(placement), slate, best)
        else:
            top_k_per_query(scores, eligible, found.query, found.item, best)
        return best

    def variety(self, placement: Placement) -> Variety:
        """What varies a placement's slates."""
        return Variety.of_candidates(
            self.items, self.candidates, self.queries.recent, placement.at_most, placement.calibration
        )


def _place(
    scored: ScoredCandidates, queries: UserSnapshots, policy: Policy, slate: int
) -> tuple[list[BestCandidates], Places]:
    """The slates of every placement, in their order, and how many places of the first one's were explored."""
    first, explored = _first_slates(scored, queries, policy, slate)
    return [first, *_further_placements(scored, first, policy, slate)], explored


def _further_placements(
    scored: ScoredCandidates, first: BestCandidates, policy: Policy, k: int
) -> Iterator[BestCandidates]:
    """The slates of the placements after the first, in their order."""
    placed = {policy.placements[0].name: first}
    for number, placement in enumerate(policy.placements[1:], start=1):
        among = scored.is_for_slates.copy()
        for name in placement.without:
            candidate = placed[name].candidate
            among[candidate[candidate >= 0]] = False
        placed[placement.name] = scored.best(policy, number, k, among)
        yield placed[placement.name]


def _first_slates(
    scored: ScoredCandidates, queries: UserSnapshots, policy: Policy, slate: int
) -> tuple[BestCandidates, Places]:
    """The slates of n queries for the first placement, and how many of their places were explored."""
    places, of_new = policy.explore_places, policy.explored_new_items
    if places == 0:
        return scored.best(policy, 0, slate), np.zeros(scored.n, np.uint8)
    needed = candidates_needed(slate, places)
    best = scored.best(policy, 0, needed + DISPLACED * of_new, slate=slate - places)
    if of_new:
        new = scored.best(policy, 0, of_new, among=scored.is_new & ~scored.resting(policy, 0))
        best = put_new_items(best, new, scored.variety(policy.placements[0]), needed)
    found = np.count_nonzero(best.candidate >= 0, axis=1)
    drawn = explore(queries.draw_key, found, slate, places)
    return best.take(drawn.candidate), drawn.explored


def _purchase_probabilities(live: ServableRelease, features: Floats, candidate: Positions) -> Floats | None:
    """Purchase probabilities [n, k] of candidates [n, k], 0 where there is none; None without a purchase head."""
    if live.purchase is None:
        return None
    chosen = features[candidate] if len(features) else np.zeros((*candidate.shape, features.shape[1]), np.float32)
    return np.where(candidate >= 0, live.purchase.probability(chosen), np.float32(0))
