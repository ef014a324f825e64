from __future__ import annotations

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.metrics import ranking

RANKS = np.array([1, 3, 20, 21, 0, -1], np.int32)


def test_each_metric_by_hand() -> None:
    assert ranking.recall_at(RANKS, 20) == ranking.hit_rate_at(RANKS, 20) == pytest.approx(3 / 6)
    assert ranking.precision_at(RANKS, 20) == pytest.approx(3 / 6 / 20)
    assert ranking.f1_at(RANKS, 20) == pytest.approx(3 / 6 * 2 / 21)
    assert ranking.accuracy(RANKS) == pytest.approx(1 / 6)
    assert ranking.ndcg_at(RANKS, 20) == pytest.approx((1 + 1 / 2 + 1 / np.log2(21)) / 6)
    assert ranking.mrr_at(RANKS, 20) == pytest.approx((1 + 1 / 3 + 1 / 20) / 6)


def test_f1_is_the_mean_of_the_events_harmonic_means() -> None:
    precision, recall = 1 / 20, 1.0
    assert ranking.f1_at(np.array([4], np.int32), 20) == pytest.approx(2 * precision * recall / (precision + recall))


def test_metrics_without_events_are_0() -> None:
    assert ranking.ndcg_at(np.empty(0, np.int32), 20) == 0


def test_coverage_counts_items_once_and_padding_never() -> None:
    slates = [np.array([[1, 2, 9], [2, -1, -1]]), np.array([[4, 1, 9]])]
    assert ranking.coverage_at(slates, items=10, k=2) == pytest.approx(3 / 10)
    assert ranking.coverage_at([], items=0, k=2) == 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=20))
def test_metrics_equal_those_of_ir_measures(ranks: list[int]) -> None:
    qrels = [ir_measures.Qrel(str(event), "came", 1) for event in range(len(ranks))]
    run = [
        ir_measures.ScoredDoc(str(event), "came" if position == rank else f"other{position}", 31.0 - position)
        for event, rank in enumerate(ranks)
        for position in range(1, 31)
    ]
    nDCG, RR, R, P = ir_measures.nDCG, ir_measures.RR, ir_measures.R, ir_measures.P
    theirs = ir_measures.calc_aggregate([nDCG @ 20, RR @ 20, R @ 20, P @ 20], qrels, run)
    ours = np.array(ranks, np.int32)
    assert theirs[nDCG @ 20] == pytest.approx(ranking.ndcg_at(ours, 20))
    assert theirs[RR @ 20] == pytest.approx(ranking.mrr_at(ours, 20))
    assert theirs[R @ 20] == pytest.approx(ranking.recall_at(ours, 20))
    assert theirs[P @ 20] == pytest.approx(ranking.precision_at(ours, 20))
