"""Items with scores, from which slates are taken."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from heapq import nlargest

import numpy as np
from numpy.typing import NDArray

ItemScores = dict[int, float]
"""Item number → score."""


def top_items(scores: ItemScores, k: int) -> list[int]:
    """The k items with the highest scores, best first; of equal scores the lower item number first."""
    return [-item for _, item in nlargest(k, ((score, -item) for item, score in scores.items()))]


@dataclass(frozen=True)
class ScoredItems:
    """Items of one user with their scores, from which slates are taken."""

    items: NDArray[np.int32]  # [n] distinct
    scores: NDArray[np.float64]  # [n]; an item with the score 0 is on no slate

    def top(self, k: int, exclude: Collection[int] = (), among: Collection[int] | None = None) -> list[int]:
        """The k items with the highest scores that are not excluded, of all or `among` some, best first; of equal ones
        the lower item number first."""
        eligible = (self.scores > 0) & ~_is_in(self.items, exclude)
        if among is not None:
            eligible &= _is_in(self.items, among)
        items, scores = self.items[eligible], self.scores[eligible]
        if len(items) > k:
            is_high = scores >= np.partition(scores, len(scores) - k)[len(scores) - k]
            items, scores = items[is_high], scores[is_high]
        top: list[int] = items[np.lexsort((items, -scores))[:k]].tolist()
        return top


def _is_in(items: NDArray[np.int32], chosen: Collection[int]) -> NDArray[np.bool_]:
    if not len(items) or not chosen:
        return np.zeros(len(items), np.bool_)
    return np.isin(items, np.fromiter(chosen, np.int32, len(chosen)), kind="table")
