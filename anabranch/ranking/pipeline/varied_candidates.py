"""The best candidates of each query that make a varied slate: limits of one kind, and calibrated categories."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anabranch.placements import AtMost
from anabranch.ranking.jit import compiled, compiled_inline
from anabranch.ranking.pipeline.best_candidates import BestCandidates
from anabranch.ranking.retrieval.candidate_columns import Candidates
from anabranch.ranking.retrieval.item_attributes import NO_NAME
from anabranch.ranking.retrieval.item_index import ItemColumns
from anabranch.ranking.types import Counts, Floats, Hashes, Mask, Positions, Rows

Shares = NDArray[np.float64]
"""[H] by category of a user's history; there are at most as many as events."""
SMOOTHING = 0.01
"""Share of the user's own categories that is mixed into those of the slate: a category without an item there would
otherwise be infinitely far from the user (Steck uses the same)."""


class Variety(NamedTuple):
    """What varies the slates of n queries."""

    brands: Hashes
    """[N] of the candidates' items; those without a brand are not limited, nor those without a category"""
    categories: Hashes
    """[N]"""
    of_brand: int
    """So many candidates of one brand at most."""
    of_category: int
    calibration: float
    """0 to 1, see `Placement.calibration`."""
    history: Hashes
    """[n, H] the categories of the user's history, `NO_NAME` where there is none"""

    @classmethod
    def of_candidates(
        cls, items: ItemColumns, candidates: Candidates, recent: Rows, at_most: AtMost, calibration: float
    ) -> Variety:
        """That of one placement, for queries of whose users `recent` [n, H] is the history, -1 padded."""
        item = candidates.item
        known = np.where((recent >= 0) & (recent < len(items.categories)), recent, 0)
        history = np.where(recent == known, items.categories[known], np.uint64(NO_NAME))
        unlimited = len(item)
        limits = at_most.brand or unlimited, at_most.category or unlimited
        return cls(items.brands[item], items.categories[item], *limits, calibration, history)


@compiled
def varied_top_k_per_query(
    scores: Floats,  # [N]
    eligible: Mask,  # [N]
    candidates: Candidates,  # N
    variety: Variety,
    slate: int,
    best: BestCandidates,  # of n queries, empty; output
) -> None:
    """Choose k eligible candidates of each query one after the other, each the best that the limits admit. The first
    ones, which make the `slate`, are put in the order of their scores.

    The best is the one that adds most to (1 - c) · sum of scores - c · n · KL(p, q), where c is the `calibration`, n
    the length of the slate, p has the shares of categories in the user's history, and q those among the chosen
    candidates, smoothed (Steck, Calibrated recommendations, RecSys 2018, equations 2 to 5; with n, both terms are sums
    over places). Only what a candidate adds for its own category differs between candidates, so no more is computed.
    What a slate has is calibrated, and its order left to the scores: that costs less NDCG than the order of choice.
    """
    n, k = best.candidate.shape
    is_open = eligible.copy()
    category_of = np.full(len(scores), -1, np.int32)
    share, picks = np.zeros(variety.history.shape[1]), np.zeros(variety.history.shape[1])
    gain = np.zeros(variety.history.shape[1])
    end = 0
    for q in range(n):
        start = end
        while end < len(scores) and candidates.query[end] == q:
            end += 1
        liked = 0
        if variety.calibration > 0:
            liked = _count_history_categories(variety, q, category_of[start:end], variety.categories[start:end], share)
        picks[:] = 0
        taken = 0
        while taken < k:
            for index in range(liked):
                gain[index] = slate * _gain(share[index], picks[index], taken)
            nth = _best_open(scores[start:end], is_open[start:end], category_of[start:end], gain, variety.calibration)
            if nth < 0:
                break
            c = start + nth
            is_open[c] = False
            if is_full(variety, best.candidate, q, taken, c):
                chosen = best.candidate[q, :taken]
                if _has_enough(variety.brands, variety.of_brand, chosen, c):
                    _close_alike(is_open[start:end], variety.brands[start:end], variety.brands[c])
                if _has_enough(variety.categories, variety.of_category, chosen, c):
                    _close_alike(is_open[start:end], variety.categories[start:end], variety.categories[c])
                continue
            best.candidate[q, taken], best.items[q, taken], best.scores[q, taken] = c, candidates.item[c], scores[c]
            if category_of[c] >= 0:
                picks[category_of[c]] += 1
            taken += 1
        _sort_by_score(best, q, min(slate, taken))


@compiled_inline
def _sort_by_score(best: BestCandidates, q: int, length: int) -> None:
    """Put the first candidates of query q in the order of their scores, the best first."""
    order = np.argsort(-best.scores[q, :length], kind="mergesort")
    best.candidate[q, :length] = best.candidate[q, :length][order]
    best.items[q, :length] = best.items[q, :length][order]
    best.scores[q, :length] = best.scores[q, :length][order]


@compiled_inline
def is_full(variety: Variety, candidate: Positions, q: int, taken: int, c: int) -> bool:
    """Whether query q has taken as many candidates of the brand or category of c as the limits allow."""
    chosen = candidate[q, :taken]
    return _has_enough(variety.brands, variety.of_brand, chosen, c) or _has_enough(
        variety.categories, variety.of_category, chosen, c
    )


@compiled_inline
def _has_enough(kinds: Hashes, limit: int, chosen: Positions, c: int) -> bool:
    """Whether as many of the chosen candidates are of the same kind as c as the limit allows."""
    alike = 0
    for other in chosen:
        alike += kinds[other] == kinds[c]
    return kinds[c] != NO_NAME and alike >= limit


@compiled_inline
def _close_alike(is_open: Mask, kinds: Hashes, kind: int) -> None:
    """No candidate of one query [m] that is of this kind can be chosen any more."""
    for index in range(len(is_open)):
        if kinds[index] == kind:
            is_open[index] = False


@compiled_inline
def _best_open(scores: Floats, is_open: Mask, category_of: Counts, gain: Shares, calibration: float) -> int:
    """The open one of a query's candidates that adds most; of equal ones the first; -1: none is open."""
    chosen, most = -1, -np.inf
    for c in range(len(scores)):
        if not is_open[c]:
            continue
        adds = (1 - calibration) * scores[c]
        if category_of[c] >= 0:
            adds += calibration * gain[category_of[c]]
        if chosen < 0 or adds > most:
            chosen, most = c, adds
    return chosen


@compiled_inline
def _count_history_categories(variety: Variety, q: int, category_of: Counts, categories: Hashes, share: Shares) -> int:
    """Write the shares of the categories of query q's history to `share`, and which of them each of the query's
    candidates has to `category_of`; the number of these categories."""
    liked, described = 0, 0
    distinct = np.empty(variety.history.shape[1], np.uint64)
    for back in range(variety.history.shape[1]):
        category = variety.history[q, back]
        if category == NO_NAME:
            continue
        index = _index_of(distinct, liked, category)
        if index == liked:
            distinct[index], share[index] = category, 0
            liked += 1
        share[index] += 1
        described += 1
    for index in range(liked):
        share[index] /= described
    for c in range(len(categories)):
        index = _index_of(distinct, liked, categories[c])
        category_of[c] = index if index < liked else -1
    return liked


@compiled_inline
def _index_of(distinct: Hashes, count: int, category: int) -> int:
    """Where a category is among the first `count`; `count` if it is not."""
    for index in range(count):
        if distinct[index] == category:
            return index
    return count


@compiled_inline
def _gain(share: float, picks: float, taken: int) -> float:
    """How much less the divergence is if one more of the `taken` + 1 candidates is of a category with this share."""
    before = (1 - SMOOTHING) * picks / (taken + 1) + SMOOTHING * share
    after = (1 - SMOOTHING) * (picks + 1) / (taken + 1) + SMOOTHING * share
    return share * math.log(after / before)
