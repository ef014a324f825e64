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


def test_threshold_metrics_by_hand() -> None:
    """At one half two of the three predicted purchases were bought, and one purchase is missed."""
    decision = ThresholdMetrics.from_probabilities(PROBABILITY, BOUGHT, 0.5)
    assert decision.accuracy == pytest.approx(3 / 5)
    assert decision.precision == decision.recall == decision.f1 == pytest.approx(2 / 3)


def test_a_probability_at_the_threshold_is_a_predicted_purchase() -> None:
    assert ThresholdMetrics.from_probabilities(PROBABILITY, BOUGHT, 0.4).recall == 1


def test_without_a_predicted_purchase_all_metrics_but_accuracy_are_0() -> None:
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


def test_every_example_is_in_a_bin() -> None:
    edges = np.array([0, 0.5, 1])
    assert [part.examples for part in reliability(np.array([0, 0.5, 1.0]), np.array([False, True, True]), edges)] == [
        1,
        2,
    ]


def test_ten_bins_hold_equally_many_examples_and_add_up_to_all() -> None:
    random = np.random.default_rng(0)
    probability = random.random(1000) ** 8
    table = PurchaseMetrics.from_probabilities(probability, random.random(1000) < probability, 0.5).reliability
    assert [part.examples for part in table] == [100] * BINS
    assert [part.predicted for part in table] == sorted(part.predicted for part in table)


def test_equal_probabilities_are_in_one_bin() -> None:
    figures = PurchaseMetrics.from_probabilities(np.full(5, 0.6), BOUGHT, 0.5)
    assert figures.reliability == [ReliabilityBin(examples=5, predicted=pytest.approx(0.6), observed=3 / 5)]
    assert figures.calibration_error == figures.adaptive_calibration_error == pytest.approx(0)
    assert figures.roc_auc == 0.5
    assert figures.pr_auc == pytest.approx(3 / 5)


def test_miscalibration_of_rare_purchases_shows_only_in_bins_with_equally_many_examples() -> None:
    """All are below 0.1: one wide bin hides that the lower half is predicted too low and the upper half too high."""
    probability = np.repeat([0.01, 0.09], 500)
    bought = np.arange(1000) % 20 == 0
    figures = PurchaseMetrics.from_probabilities(probability, bought, 0.5)
    assert figures.calibration_error == pytest.approx(0, abs=1e-9)
    assert figures.adaptive_calibration_error == pytest.approx(0.04)


def test_the_best_threshold_has_the_highest_f1() -> None:
    """If all but the last are predicted purchases, precision is 3/4 and recall 1."""
    best = best_f1_threshold(PROBABILITY, BOUGHT)
    scores = {
        threshold: ThresholdMetrics.from_probabilities(PROBABILITY, BOUGHT, threshold).f1
        for threshold in PROBABILITY.tolist()
    }
    assert best == max(scores, key=scores.__getitem__) == 0.4


@pytest.mark.parametrize("bought", [True, False])
def test_examples_of_one_class_only_are_an_error(bought: bool) -> None:
    with pytest.raises(ValueError, match="some examples were bought and some not"):
        PurchaseMetrics.from_probabilities(PROBABILITY, np.full(5, bought), 0.5)
