"""Metrics of purchase probabilities: classification at a threshold, ranking quality, and calibration.

Purchases are rare, so accuracy is high if no purchase is ever predicted, and the area under the precision-recall curve
is more informative than that under the ROC curve (Saito & Rehmsmeier, 2015). All metrics are scikit-learn's except the
calibration error, which it does not have (Naeini et al., Obtaining Well Calibrated Probabilities Using Bayesian
Binning, AAAI 2015).
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
"""[N], predicted probability of a purchase per example."""
Bought = NDArray[np.bool_]
"""[N], whether the user bought the item."""

BINS = 10


class ThresholdMetrics(Struct, frozen=True, kw_only=True):
    """Every probability from `threshold` on is a predicted purchase. Precision, recall and F1 are of the purchases, and
    0 if none is predicted."""

    threshold: float
    accuracy: float
    precision: float
    recall: float
    f1: float

    @classmethod
    def from_probabilities(cls, probability: Probabilities, bought: Bought, threshold: float) -> ThresholdMetrics:
        """Compare the predictions with what was bought."""
        predicted = probability >= threshold
        precision, recall, f1, _ = precision_recall_fscore_support(bought, predicted, average="binary", zero_division=0)
        return cls(
            threshold=threshold,
            accuracy=float(accuracy_score(bought, predicted)),
            precision=float(precision),
            recall=float(recall),
            f1=float(f1),
        )


class ReliabilityBin(Struct, frozen=True, kw_only=True):
    """Examples with similar probabilities."""

    examples: int
    predicted: float
    """Mean probability."""
    observed: float
    """Share that was bought."""


class PurchaseMetrics(Struct, frozen=True, kw_only=True):
    """All metrics of purchase probabilities on a set of examples."""

    examples: int
    purchases: int
    at_half: ThresholdMetrics
    at_best_f1: ThresholdMetrics
    """At the threshold that was best on other examples: see `best_f1_threshold`."""
    roc_auc: float
    pr_auc: float
    """Average precision; a random predictor has the share of purchases."""
    log_loss: float
    """Natural logarithm."""
    brier: float
    calibration_error: float
    """Over ten bins of equal width. If purchases are rare, nearly all examples are in the first one."""
    adaptive_calibration_error: float
    """Over the bins of `reliability`."""
    reliability: list[ReliabilityBin]
    """Ten bins with equally many examples; fewer if many have the same probability (Nguyen & O'Connor, EMNLP 2015)."""

    @classmethod
    def from_probabilities(cls, probability: Probabilities, bought: Bought, threshold: float) -> PurchaseMetrics:
        """Raises `ValueError` unless there are both bought and other examples: the areas are not defined otherwise."""
        if bought.all() or not bought.any():
            raise ValueError("purchase probabilities can be measured only if some examples were bought and some not")
        deciles = np.quantile(probability, np.linspace(0, 1, BINS + 1))
        reliable = reliability(probability, bought, deciles)
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
    """The threshold with the highest F1. Choose it on other examples than those it is measured on."""
    precision, recall, thresholds = precision_recall_curve(bought, probability)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return float(thresholds[f1[:-1].argmax()])


def reliability(probability: Probabilities, bought: Bought, edges: NDArray[np.float64]) -> list[ReliabilityBin]:
    """The examples in bins between `edges` [bins + 1], ascending. An edge belongs to the bin above it, the last edge to
    the bin below it. Empty bins are left out."""
    bin_of = np.clip(np.searchsorted(edges, probability, side="right") - 1, 0, len(edges) - 2)
    examples, predicted, observed = (
        np.bincount(bin_of, weights, len(edges) - 1) for weights in (np.ones(len(bin_of)), probability, bought)
    )
    return [
        ReliabilityBin(examples=int(n), predicted=float(probability_sum / n), observed=float(purchases / n))
        for n, probability_sum, purchases in zip(examples, predicted, observed, strict=True)
        if n
    ]


def calibration_error(bins: list[ReliabilityBin]) -> float:
    """Expected calibration error: mean over examples of |predicted - observed| of their bin."""
    examples = sum(part.examples for part in bins)
    return sum(part.examples * abs(part.predicted - part.observed) for part in bins) / examples
