"""What similar owners vote for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.jit import compiled
from models.co_visit.scored_items import ScoredItems
from models.knn.matching import Matches, Scores
from models.knn.visit_log import VisitColumns, VisitLog


class Votes:
    """Sums votes by item."""

    def __init__(self) -> None:
        self._scores: Scores = np.zeros(1024)
        """All zeros between calls."""

    def count(self, log: VisitLog, matches: Matches, weights: tuple[Scores, Scores]) -> ScoredItems:
        """Items by their votes.

        A match gives the item `d` visits before the matching visit its similarity times `weights[0][d]`, and the item
        `d` visits after it times `weights[1][d]`.
        """
        if len(self._scores) < len(log.newest_of_item):
            self._scores = np.zeros(len(log.newest_of_item))
        scores = self._scores
        items = _add_votes(scores, log.columns, log.first, matches, *weights)
        scored = ScoredItems(items, scores[items])
        scores[items] = 0
        return scored


@compiled
def _add_votes(
    scores: Scores, log: VisitColumns, first: int, matches: Matches, before: Scores, after: Scores
) -> NDArray[np.int32]:
    """Add to `scores` [C] of items what the matching owners vote for, and return the items, each of them once.

    The item `d` visits before the matching visit gets `before[d]` times the similarity, and `d` after it `after[d]`.
    """
    touched = np.empty(len(matches.visit) * (len(before) + len(after)), np.int32)
    n = 0
    for m in range(len(matches.visit)):
        for forward in range(2):
            weights = after if forward else before
            visit = matches.visit[m]
            for d in range(len(weights)):
                if visit < first or visit < 0:
                    break
                at = visit % len(log.item)
                if d > 0 or not forward:
                    if scores[log.item[at]] == 0:
                        touched[n] = log.item[at]
                        n += 1
                    scores[log.item[at]] += matches.similarity[m] * weights[d]
                visit = log.after_of_owner[at] if forward else log.before_of_owner[at]
    return touched[:n]
