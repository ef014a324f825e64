from __future__ import annotations

import numpy as np
import pytest

from models.metrics.calibration import (
    BINS,
    PurchaseMetrics,
    ReliabilityBin,
    ThresholdMetrics,
    best_f1_threshold,
    calibration_error,
    reliability,
)

PROBABILITY = np.array([0.9, 0.8, 0.6, 0.4, 0.2])
BOUGHT = np.array([True, False, True, True, False])


def test_decisions_by_hand() -> None:
    """At one half: two of the three taken were bought, and one that was bought is missed."""
    decision = ThresholdMetrics.from_probabilities(PROBABILITY, BOUGHT, 0.5)
    assert decision.accuracy == pytest.approx(3 / 5)
    assert decision.precision == decision.recall == decision.f1 == pytest.approx(2 / 3)


def test_a_probability_at_the_threshold_is_taken_for_a_purchase() -> None:
    assert ThresholdMetrics.from_probabilities(PROBABILITY, BOUGHT, 0.4).recall == 1


def test_who_takes_nothing_for_a_purchase_scores_nothing_but_accuracy() -> None:
    decision = ThresholdMetrics.from_probabilities(PROBABILITY, BOUGHT, 1.0)
    assert (decision.precision, decision.recall, decision.f1) == (0, 0, 0)
    assert decision.accuracy == pytest.approx(2 / 5)


def test_curves_and_losses_by_hand() -> None:
    figures = PurchaseMetrics.from_probabilities(PROBABILITY, BOUGHT, 0.4)
    assert (figures.examples, figures.purchases) == (5, 3)
    assert figures.roc_auc == pytest.approx(4 / 6), "of 3 x 2 pairs four stand right"
    assert figures.pr_auc == pytest.approx((1 / 1 + 2 / 3 + 3 / 4) / 3), "mean of the precision at each purchase"
    likelihoods = [0.9, 1 - 0.8, 0.6, 0.4, 1 - 0.2]
    assert figures.log_loss == pytest.approx(-np.log(likelihoods).mean())
    assert figures.brier == pytest.approx((0.1**2 + 0.8**2 + 0.4**2 + 0.6**2 + 0.2**2) / 5)
    assert (figures.at_half.threshold, figures.at_best_f1.threshold) == (0.5, 0.4)


def test_calibration_by_hand() -> None:
    """Two bins: of 0.2 and 0.4 half were bought, of 0.6, 0.8 and 0.9 two in three."""
    low, high = reliability(PROBABILITY, BOUGHT, np.array([0, 0.5, 1]))
    assert (low.examples, low.predicted, low.observed) == (2, pytest.approx(0.3), 1 / 2)
    assert (high.examples, high.predicted, high.observed) == (3, pytest.approx(2.3 / 3), pytest.approx(2 / 3))
    assert calibration_error([low, high]) == pytest.approx((2 * 0.2 + 3 * 0.1) / 5)


def test_no_example_falls_out_of_the_bins() -> None:
    edges = np.array([0, 0.5, 1])
    assert [one.examples for one in reliability(np.array([0, 0.5, 1.0]), np.array([False, True, True]), edges)] == [
        1,
        2,
    ]


def test_ten_bins_hold_equally_many_examples_and_add_up_to_all() -> None:
    random = np.random.default_rng(0)
    probability = random.random(1000) ** 8
    table = PurchaseMetrics.from_probabilities(probability, random.random(1000) < probability, 0.5).reliability
    assert [one.examples for one in table] == [100] * BINS
    assert [one.predicted for one in table] == sorted(one.predicted for one in table)


def test_one_probability_for_all_is_one_bin() -> None:
    figures = PurchaseMetrics.from_probabilities(np.full(5, 0.6), BOUGHT, 0.5)
    assert figures.reliability == [ReliabilityBin(examples=5, predicted=pytest.approx(0.6), observed=3 / 5)]
    assert figures.calibration_error == figures.adaptive_calibration_error == pytest.approx(0)
    assert figures.roc_auc == 0.5
    assert figures.pr_auc == pytest.approx(3 / 5)


def test_a_rare_purchase_shows_miscalibration_only_where_bins_hold_equally_many() -> None:
    """All is below 0.1: one wide bin hides that the lower half is said too low and the upper half too high."""
    probability = np.repeat([0.01, 0.09], 500)
    bought = np.arange(1000) % 20 == 0
    figures = PurchaseMetrics.from_probabilities(probability, bought, 0.5)
    assert figures.calibration_error == pytest.approx(0, abs=1e-9)
    assert figures.adaptive_calibration_error == pytest.approx(0.04)


def test_the_best_threshold_is_the_one_of_greatest_f1() -> None:
    """Where all but the last is taken, precision is 3/4 and recall 1."""
    best = best_f1_threshold(PROBABILITY, BOUGHT)
    scores = {
        float(one): ThresholdMetrics.from_probabilities(PROBABILITY, BOUGHT, float(one)).f1 for one in PROBABILITY
    }
    assert best == max(scores, key=scores.__getitem__) == 0.4


@pytest.mark.parametrize("bought", [True, False])
def test_examples_of_one_kind_alone_are_an_error_that_says_so(bought: bool) -> None:
    with pytest.raises(ValueError, match="some examples were bought and some not"):
        PurchaseMetrics.from_probabilities(PROBABILITY, np.full(5, bought), 0.5)
