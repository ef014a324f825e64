"""How good purchase probabilities are: the decisions they lead to, the order they give, and whether they are true.

Purchases are rare, so accuracy is high for whoever always says no, and the area under the precision-recall curve tells
more than that under the ROC curve (Saito & Rehmsmeier, 2015). The figures are scikit-learn's, but for the calibration
error, which it lacks (Naeini et al., Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015).
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    log_loss,
    precision_recall_curve,
    precision_recall_fscore_support,
    roc_auc_score,
)

Probabilities = NDArray[np.float64]
"""[N] of a purchase, one an example."""
Bought = NDArray[np.bool_]
"""[N] whether it came to a purchase."""

BINS = 10


class ThresholdMetrics(Struct, frozen=True, kw_only=True):
    """Everything from `threshold` on taken for a purchase. Precision, recall and F1 are of purchases, 0 without any."""

    threshold: float
    accuracy: float
    precision: float
    recall: float
    f1: float

    @classmethod
    def from_probabilities(cls, probability: Probabilities, bought: Bought, threshold: float) -> ThresholdMetrics:
        taken = probability >= threshold
        precision, recall, f1, _ = precision_recall_fscore_support(bought, taken, average="binary", zero_division=0)
        return cls(
            threshold=threshold,
            accuracy=float(accuracy_score(bought, taken)),
            precision=float(precision),
            recall=float(recall),
            f1=float(f1),
        )


class ReliabilityBin(Struct, frozen=True, kw_only=True):
    """The examples of similar probability: what was said of them, and what came."""

    examples: int
    predicted: float
    """Mean probability."""
    observed: float
    """Share that was bought."""


class PurchaseMetrics(Struct, frozen=True, kw_only=True):
    """Everything measured of purchase probabilities on some examples."""

    examples: int
    purchases: int
    at_half: ThresholdMetrics
    at_best_f1: ThresholdMetrics
    """At the threshold that was best elsewhere: see `best_f1_threshold`."""
    roc_auc: float
    pr_auc: float
    """Average precision; whoever guesses has the share of purchases."""
    log_loss: float
    """Natural logarithm."""
    brier: float
    calibration_error: float
    """Over ten bins of equal width. Where purchases are rare, nearly all examples are in the first of them."""
    adaptive_calibration_error: float
    """Over the bins of `reliability`."""
    reliability: list[ReliabilityBin]
    """Ten bins of equally many examples, fewer where many have one probability (Nguyen & O'Connor, EMNLP 2015)."""

    @classmethod
    def from_probabilities(cls, probability: Probabilities, bought: Bought, threshold: float) -> PurchaseMetrics:
        """Raises `ValueError` unless some examples were bought and some were not: no curve has an area otherwise."""
        if bought.all() or not bought.any():
            raise ValueError(
                "purchase probabilities are measured on examples that were bought and others that were not"
            )
        reliable = reliability(probability, bought, np.quantile(probability, np.linspace(0, 1, BINS + 1)))
        return cls(
            examples=len(bought),
            purchases=int(bought.sum()),
            at_half=ThresholdMetrics.from_probabilities(probability, bought, 0.5),
            at_best_f1=ThresholdMetrics.from_probabilities(probability, bought, threshold),
            roc_auc=float(roc_auc_score(bought, probability)),
            pr_auc=float(average_precision_score(bought, probability)),
            log_loss=float(log_loss(bought, probability)),
            brier=float(brier_score_loss(bought, probability)),
            calibration_error=calibration_error(reliability(probability, bought, np.linspace(0, 1, BINS + 1))),
            adaptive_calibration_error=calibration_error(reliable),
            reliability=reliable,
        )


def best_f1_threshold(probability: Probabilities, bought: Bought) -> float:
    """The threshold at which F1 is greatest; choose it on other examples than those it is measured on."""
    precision, recall, thresholds = precision_recall_curve(bought, probability)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return float(thresholds[f1[:-1].argmax()])


def reliability(probability: Probabilities, bought: Bought, edges: NDArray[np.float64]) -> list[ReliabilityBin]:
    """The examples in bins between `edges` [bins + 1], ascending; an edge belongs to the bin above it, the last one to
    the bin below. Empty bins are left out."""
    at = np.clip(np.searchsorted(edges, probability, side="right") - 1, 0, len(edges) - 2)
    examples, predicted, observed = (
        np.bincount(at, weights, len(edges) - 1) for weights in (np.ones(len(at)), probability, bought)
    )
    return [
        ReliabilityBin(examples=int(n), predicted=float(said / n), observed=float(came / n))
        for n, said, came in zip(examples, predicted, observed, strict=True)
        if n
    ]


def calibration_error(bins: list[ReliabilityBin]) -> float:
    """Expected calibration error: how far what was said is from what came, mean over examples."""
    examples = sum(one.examples for one in bins)
    return sum(one.examples * abs(one.predicted - one.observed) for one in bins) / examples
