"""Rankings of some items alone: those that a request's conditions let through, or those that it names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.candidates import POPULAR_TO_NEW_USERS
from anabranch.ranking.retrieval.co_visit_table import UNPOPULAR, CoVisitRows
from anabranch.ranking.retrieval.item_index import ItemIndex
from anabranch.ranking.rules_in_force import ItemEffects, RulesInForce
from anabranch.ranking.types import Mask, Rows, Vectors


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


def allowed_candidates(index: ItemIndex, co_visits: CoVisitRows, vector: Vectors, allowed: Mask, k: int) -> Rows:
    """The k allowed items [N] nearest to a user vector [d] by exact search, and the most popular ones."""
    rows = np.flatnonzero(allowed & index.columns.servable).astype(np.int32)
    nearest = nearest_rows(index, vector, rows, k)
    popular = popular_rows(index, co_visits, rows, POPULAR_TO_NEW_USERS)
    return np.union1d(nearest, popular).astype(np.int32)


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
