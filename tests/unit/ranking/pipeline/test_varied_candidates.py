"""Calibrated slates, against the objective that they maximise step by step, written out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from anabranch.ranking.pipeline.best_candidates import BestCandidates, top_k_per_query
from anabranch.ranking.pipeline.varied_candidates import SMOOTHING, Variety, varied_top_k_per_query
from anabranch.ranking.retrieval.candidate_columns import Candidates
from anabranch.ranking.retrieval.item_attributes import NO_NAME
from anabranch.ranking.types import Floats

QUERIES, CANDIDATES, HISTORY, SLATE = 12, 40, 16, 8
UNLIMITED = CANDIDATES * QUERIES


class RandomQueries:
    """Queries with candidates of random scores and of six categories, of which `NO_NAME` is none."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        n = QUERIES * CANDIDATES
        self.candidates = Candidates.empty(n, QUERIES)._replace(
            query=np.repeat(np.arange(QUERIES), CANDIDATES).astype(np.int32), item=np.arange(n, dtype=np.int32)
        )
        self.scores = random.normal(size=n).astype(np.float32)
        self.eligible = random.random(n) < 0.9
        self.categories = random.integers(0, 6, n).astype(np.uint64)
        self.brands = random.integers(0, 4, n).astype(np.uint64)
        self.history = random.choice(6, (QUERIES, HISTORY), p=[0.1, 0.5, 0.2, 0.1, 0.1, 0]).astype(np.uint64)
        self.history[0] = NO_NAME

    def variety(self, calibration: float, of_brand: int = UNLIMITED, of_category: int = UNLIMITED) -> Variety:
        return Variety(self.brands, self.categories, of_brand, of_category, calibration, self.history)

    def chosen(self, variety: Variety, k: int = SLATE) -> list[list[int]]:
        best = BestCandidates.empty(QUERIES, k)
        varied_top_k_per_query(self.scores, self.eligible, self.candidates, variety, SLATE, best)
        assert np.array_equal(best.items, best.candidate)
        assert np.array_equal(best.scores, np.where(best.candidate >= 0, self.scores[best.candidate], 0))
        return [[c for c in of_query if c >= 0] for of_query in best.candidate.tolist()]

    def best(self) -> list[list[int]]:
        best = BestCandidates.empty(QUERIES, SLATE)
        top_k_per_query(self.scores, self.eligible, self.candidates.query, self.candidates.item, best)
        return best.candidate.tolist()

    def expected(self, q: int, calibration: float) -> list[int]:
        """In the order in which they are chosen."""
        chosen: list[int] = []
        for _ in range(SLATE):
            others = [c for c in range(q * CANDIDATES, (q + 1) * CANDIDATES) if self.eligible[c] and c not in chosen]
            values = [self._objective(q, [*chosen, c], calibration) for c in others]
            chosen.append(others[int(np.argmax(np.round(values, 9)))])
        return chosen

    def _objective(self, q: int, chosen: Sequence[int], calibration: float) -> float:
        """(1 - c) · sum of scores - c · n · KL(p, q)."""
        history = [category for category in self.history[q].tolist() if category != NO_NAME]
        of_chosen = Counter(self.categories[list(chosen)].tolist())
        divergence = 0.0
        for category, count in Counter(history).items():
            p = count / len(history)
            smoothed = (1 - SMOOTHING) * of_chosen[category] / len(chosen) + SMOOTHING * p
            divergence += p * math.log(p / smoothed)
        scores: Floats = self.scores[list(chosen)].astype(np.float64)
        return (1 - calibration) * float(scores.sum()) - calibration * SLATE * divergence


@pytest.fixture
def queries() -> RandomQueries:
    return RandomQueries()


@pytest.mark.parametrize("calibration", [0.0, 0.1, 0.5, 0.99])
def test_each_candidate_adds_most_to_scores_and_calibration_together(
    queries: RandomQueries, calibration: float
) -> None:
    chosen = queries.chosen(queries.variety(calibration))
    expected = [queries.expected(q, calibration) for q in range(QUERIES)]
    assert chosen == [sorted(of_query, key=lambda c: -queries.scores[c]) for of_query in expected]


def test_candidates_beyond_the_slate_are_those_that_would_be_chosen_next(queries: RandomQueries) -> None:
    variety = queries.variety(0.3)
    for slate, more in zip(queries.chosen(variety), queries.chosen(variety, k=2 * SLATE), strict=True):
        assert (more[:SLATE], len(more)) == (slate, 2 * SLATE)


def test_without_calibration_and_limits_the_order_is_that_of_the_scores(queries: RandomQueries) -> None:
    assert queries.chosen(queries.variety(0.0)) == queries.best()


def test_a_user_without_a_history_has_the_order_of_the_scores(queries: RandomQueries) -> None:
    assert queries.chosen(queries.variety(0.9))[0] == queries.best()[0]


def test_the_more_calibration_counts_the_nearer_a_slate_is_to_the_history(queries: RandomQueries) -> None:
    """A total variation of 0 is the same shares."""

    def distance(chosen: Sequence[int], q: int) -> float:
        shares = [
            np.bincount(categories.astype(int), minlength=6)[1:] / max(np.count_nonzero(categories), 1)
            for categories in (queries.history[q], queries.categories[list(chosen)])
        ]
        return float(np.abs(shares[0] - shares[1]).sum() / 2)

    distances = [
        np.mean([distance(chosen, q) for q, chosen in enumerate(queries.chosen(queries.variety(calibration))) if q])
        for calibration in (0.0, 0.2, 0.9)
    ]
    assert distances[0] > distances[1] > distances[2]
    assert distances[2] < 0.15


def test_limits_hold_on_calibrated_slates(queries: RandomQueries) -> None:
    for q, chosen in enumerate(queries.chosen(queries.variety(0.3, of_brand=3, of_category=2))):
        brands, categories = Counter(queries.brands[chosen].tolist()), Counter(queries.categories[chosen].tolist())
        assert max(count for brand, count in brands.items() if brand != NO_NAME) <= 3, q
        assert max(count for category, count in categories.items() if category != NO_NAME) <= 2, q
