"""The best candidates of each query, in order of their scores but for those that rules pin."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from anabranch.ranking.jit import compiled, compiled_inline
from anabranch.ranking.retrieval.candidate_columns import Candidates
from anabranch.ranking.rules_in_force import Pins
from anabranch.ranking.top_k import insert_best_first
from anabranch.ranking.types import Counts, Floats, Mask, Positions, Rows


class BestCandidates(NamedTuple):
    """The k best candidates of each of n queries, best first."""

    items: Rows
    """[n, k] -1 padded"""
    scores: Floats
    """[n, k]"""
    candidate: Positions
    """[n, k] index among all candidates, -1 padded"""

    @classmethod
    def empty(cls, n: int, k: int) -> BestCandidates:
        """No candidates."""
        return cls(np.full((n, k), -1, np.int32), np.zeros((n, k), np.float32), np.full((n, k), -1, np.int64))

    def filled_up(self, others: BestCandidates, length: int) -> BestCandidates:
        """With the best of the others behind them, up to this length."""
        k = self.candidate.shape[1]
        room = np.maximum(length - np.count_nonzero(self.candidate >= 0, axis=1), 0)
        admitted = np.where(np.arange(k) < room[:, None], others.candidate, -1)
        both = BestCandidates(
            items=np.concatenate([self.items, np.where(admitted >= 0, others.items, -1)], axis=1),
            scores=np.concatenate([self.scores, np.where(admitted >= 0, others.scores, np.float32(0))], axis=1),
            candidate=np.concatenate([self.candidate, admitted], axis=1),
        )
        return both.take(np.argsort(both.candidate < 0, axis=1, kind="stable")[:, :k])

    def take(self, order: Positions) -> BestCandidates:
        """Those at `order` [n, m] of each query."""
        return BestCandidates(
            items=np.take_along_axis(self.items, order, 1),
            scores=np.take_along_axis(self.scores, order, 1),
            candidate=np.take_along_axis(self.candidate, order, 1),
        )


@compiled
def top_k_per_query(
    scores: Floats,  # [N]
    eligible: Mask,  # [N]
    query: Counts,  # [N] ascending
    item: Rows,  # [N]
    best: BestCandidates,  # of n queries, empty; output
) -> None:
    """Find the k eligible candidates with the highest scores of each query; of equal ones, the first is the better."""
    k, filled = best.scores.shape[1], 0
    for c in range(len(scores)):
        q = query[c]
        if c == 0 or query[c - 1] != q:
            filled = 0
        if not eligible[c]:
            continue
        if filled < k or scores[c] > best.scores[q, k - 1]:
            insert_best_first(best.scores, best.candidate, q, filled, scores[c], c)
            filled = min(filled + 1, k)
    for q in range(len(best.items)):
        for position in range(k):
            if best.candidate[q, position] >= 0:
                best.items[q, position] = item[best.candidate[q, position]]


@compiled
def place_pins(
    scores: Floats,  # [N]
    eligible: Mask,  # [N]
    candidates: Candidates,  # N
    pins: Pins,  # m
    best: BestCandidates,  # of n queries, as `top_k_per_query` left it; changed in place
) -> None:
    """Put pinned items that are eligible candidates at their positions, and the best others around them, in order.

    Where a slate ends before its position, a pinned item stands at the end.
    """
    n, k = best.candidate.shape
    pinned, others = np.empty(len(pins.item), np.int64), np.empty(k, np.int64)
    end = 0
    for q in range(n):
        start = end
        while end < len(scores) and candidates.query[end] == q:
            end += 1
        _find_pinned(eligible, candidates.item, start, end, pins.item, pinned)
        found = _others(best.candidate, q, pinned, others)
        pin = other = 0
        for place in range(k):
            while pin < len(pinned) and pinned[pin] < 0:
                pin += 1
            if pin < len(pinned) and (pins.position[pin] <= place or other == found):
                c = pinned[pin]
                pin += 1
            elif other < found:
                c = others[other]
                other += 1
            else:
                break
            best.candidate[q, place], best.items[q, place], best.scores[q, place] = c, candidates.item[c], scores[c]


@compiled_inline
def _find_pinned(eligible: Mask, item: Rows, start: int, end: int, wanted: Rows, pinned: Positions) -> None:
    """Which of a query's candidates, `start` to `end`, each wanted item is; -1 if it is no eligible one."""
    for p in range(len(wanted)):
        pinned[p] = -1
        for c in range(start, end):
            if item[c] == wanted[p] and eligible[c]:
                pinned[p] = c
                break


@compiled_inline
def _others(candidate: Positions, q: int, pinned: Positions, others: Positions) -> int:
    """Write the best candidates of query q that are not pinned to `others`; their number."""
    found = 0
    for place in range(candidate.shape[1]):
        c = candidate[q, place]
        is_pinned = False
        for p in range(len(pinned)):
            is_pinned = is_pinned or pinned[p] == c
        if c >= 0 and not is_pinned:
            others[found] = c
            found += 1
    return found
