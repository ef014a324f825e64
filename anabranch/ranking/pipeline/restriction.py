"""Rankings of some items alone: those that a request's conditions let through, or those that it names."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.candidate_columns import BY_INDEX, BY_POPULARITY, BY_REQUEST
from anabranch.ranking.retrieval.candidates import POPULAR_TO_NEW_USERS
from anabranch.ranking.retrieval.co_visit_table import UNPOPULAR, CoVisitRows
from anabranch.ranking.retrieval.item_index import ItemIndex
from anabranch.ranking.retrieval.retrieve import not_counted
from anabranch.ranking.rules_in_force import ItemEffects, RulesInForce
from anabranch.ranking.types import Mask, Rows, Vectors
from anabranch.ranking.user_state.snapshot import UserSnapshots


def restrict(policy: Policy, allowed: Mask, proposed: Rows) -> Policy:
    """The policy for the `allowed` items [N] of an index alone, with the `proposed` ones [k] as candidates.

    They take the place of those that the index finds, which knows nothing of what is allowed: see `allowed_candidates`.
    """
    rules, shape = policy.rules, (len(policy.placements), len(allowed))
    added, hidden = np.zeros(shape, np.float32), np.zeros(shape, np.bool_)
    n = rules.effects.added.shape[1]
    if n:
        added[:, :n], hidden[:, :n] = rules.effects
    hidden |= ~allowed
    everywhere: Mask = np.logical_and.reduce(hidden)
    effects = ItemEffects(added, hidden)
    return replace(policy, retrieval_k=0, rules=RulesInForce(effects, rules.pins, everywhere, 0.0, proposed))


class AllowedCandidates(NamedTuple):
    """Further candidates, all of them allowed. No item is in both parts."""

    from_index: Rows
    popular: Rows

    @property
    def rows(self) -> Rows:
        """[k] both parts"""
        return np.concatenate([self.from_index, self.popular])

    def sources(self, items: Rows, proposed_by: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What proposed items [...], where a request did: the index, or popularity."""
        named = np.where(np.isin(items, self.popular), np.uint8(BY_POPULARITY), np.uint8(BY_INDEX))
        of_request = proposed_by & BY_REQUEST > 0
        return np.where(of_request, proposed_by & ~np.uint8(BY_REQUEST) | named, proposed_by)


def allowed_candidates(
    index: ItemIndex, co_visits: CoVisitRows, vector: Vectors, allowed: Mask, k: int
) -> AllowedCandidates:
    """The k allowed items [N] nearest to a user vector [d] by exact search, and beyond them the most popular ones."""
    rows = np.flatnonzero(allowed & index.columns.servable).astype(np.int32)
    nearest = nearest_rows(index, vector, rows, k)
    popular = popular_rows(index, co_visits, rows, POPULAR_TO_NEW_USERS)
    return AllowedCandidates(nearest, np.setdiff1d(popular, nearest))


def popular_candidates(index: ItemIndex, co_visits: CoVisitRows, allowed: Mask, k: int) -> AllowedCandidates:
    """The k most popular of the allowed items [N]; where fewer have a popularity, others of them, by their hashes."""
    rows = np.flatnonzero(allowed & index.columns.servable).astype(np.int32)
    popular = popular_rows(index, co_visits, rows, k)
    others = np.setdiff1d(rows, popular)
    return AllowedCandidates(_best_rows(index, others, np.zeros(len(others), np.float32), k - len(popular)), popular)


def showable(policy: Policy, placement: int, allowed: Mask) -> Mask:
    """[N] which of the allowed items no rule hides on the placement of this number"""
    hidden = policy.rules.effects.hidden
    if not len(hidden):
        return allowed
    is_hidden = np.zeros(len(allowed), np.bool_)
    is_hidden[: hidden.shape[1]] = hidden[placement]
    return allowed & ~is_hidden


def candidates_for_slate(policy: Policy, placement: int, queries: UserSnapshots, length: int) -> int:
    """How many items to look for, so that a user's slate of this length can be filled with them, whatever the user has
    had and whatever stands on the slates of other placements. `queries` are of one user."""
    others = len(policy.placements[placement].without)
    return max(policy.retrieval_k, length * (1 + others)) + int(not_counted(queries, policy)[0])


def nearest_rows(index: ItemIndex, vector: Vectors, rows: Rows, k: int) -> Rows:
    """The k of some rows [n] whose vectors have the greatest inner product with a vector [d], best first."""
    return _best_rows(index, rows, (index.columns.vectors @ vector)[rows], k)


def popular_rows(index: ItemIndex, co_visits: CoVisitRows, rows: Rows, k: int) -> Rows:
    """The k most popular of some rows [n], best first; fewer if fewer have a popularity."""
    popularity = co_visits.columns.log_popularity
    rows = rows[rows < len(popularity)]
    rows = rows[popularity[rows] > UNPOPULAR]
    return _best_rows(index, rows, popularity[rows], k)


def _best_rows(index: ItemIndex, rows: Rows, scores: Vectors, k: int) -> Rows:
    """The k rows of the highest scores [n], best first; of equal ones, those whose ids have the smaller hashes, so that
    every process chooses the same ones."""
    if k < len(rows):
        least = np.partition(scores, -k)[-k] if k else np.inf
        rows, scores = rows[scores >= least], scores[scores >= least]
    return rows[np.lexsort((index.columns.hashes[rows], -scores))][:k]
