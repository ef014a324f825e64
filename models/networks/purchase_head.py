"""The purchase head: the probability that the user buys a candidate within a horizon, from the ranker's features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn import functional as F

from models.data.purchase_examples import NoPurchaseHead, PurchaseExampleConfig, PurchaseExamples
from models.metrics.calibration import PurchaseMetrics, best_f1_threshold
from models.networks.list_ranker import ListRanker
from models.training_curves import Curve, no_curve

INFERENCE_ROWS = 1 << 16
"""Examples per forward pass outside of training."""


@dataclass(frozen=True)
class PurchaseConfig:
    """Data, size and training of the head."""

    examples: PurchaseExampleConfig = field(default_factory=PurchaseExampleConfig)
    held_out: float = 0.2
    """Share of the prediction points that calibrate the head, and, newer than those, share that measures it."""
    min_purchases: int = 20
    """Each of the three parts needs as many purchases of items on its slates; with fewer there is no head."""
    hidden: int = 32
    epochs: int = 4
    rows_per_step: int = 4096
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4


class PurchaseClassifier(nn.Module):
    """A network like the list ranker's whose score is the log-odds of a purchase, with a linear calibration."""

    scale: Tensor
    shift: Tensor

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.network = ListRanker(features, hidden)
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("shift", torch.zeros(()))

    def log_odds(self, features: Tensor) -> Tensor:
        """Features [..., F] → log-odds of a purchase [...], before calibration."""
        log_odds: Tensor = self.network(features)
        return log_odds

    def forward(self, features: Tensor) -> Tensor:
        """Features [B, K, F] → probability of a purchase [B, K]."""
        return torch.sigmoid(self.scale * self.log_odds(features) + self.shift)


def fit_purchase_head(
    examples: PurchaseExamples,
    config: PurchaseConfig,
    random_seed: int,
    done: Callable[[int], None] = lambda n: None,
    curve: Curve = no_curve,
) -> tuple[PurchaseClassifier, PurchaseMetrics]:
    """Train on the oldest prediction points, calibrate on later ones, and measure on the newest.

    All candidates train it. Only those on slates calibrate and measure it, because only their probabilities are
    published: the list ranker has chosen them, so more of them are bought than of others with the same features.
    The horizons of adjacent parts overlap, so one purchase may count in two parts. It does not leak, because the
    features identify neither user nor item. Raises `NoPurchaseHead` if a part has too few purchases. `done(n)` is
    called after every n examples, and `curve` with the loss of every step.
    """
    training, *later = examples.split(1 - 2 * config.held_out, 1 - config.held_out)
    served, calibrating, measuring = (part.served() for part in (training, *later))
    for part, purpose in ((served, "train on"), (calibrating, "calibrate on"), (measuring, "measure on")):
        _require_purchases(part, purpose, config.min_purchases)
    classifier = train_classifier(training, config, random_seed, done, curve)
    calibrate(classifier, calibrating)
    threshold = best_f1_threshold(probabilities(classifier, served), served.bought)
    return classifier, PurchaseMetrics.from_probabilities(
        probabilities(classifier, measuring), measuring.bought, threshold
    )


def train_classifier(
    examples: PurchaseExamples, config: PurchaseConfig, random_seed: int, done: Callable[[int], None], curve: Curve
) -> PurchaseClassifier:
    """Train with binary cross-entropy. The initial probability is the share of purchases, not one half."""
    torch.manual_seed(random_seed)
    random = np.random.default_rng(random_seed)
    classifier = PurchaseClassifier(examples.features.shape[1], config.hidden)
    classifier.network.normalise_for(examples.features)
    share = examples.bought.mean()
    nn.init.constant_(classifier.network.leave.bias, float(np.log(share / (1 - share))))
    steps = config.epochs * -(-len(examples) // config.rows_per_step)
    optimiser = torch.optim.AdamW(classifier.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, total_steps=steps, pct_start=0.1)
    features, bought = torch.from_numpy(examples.features), torch.from_numpy(examples.bought).float()
    for _ in range(config.epochs):
        shuffled = torch.from_numpy(random.permutation(len(examples)))
        for chosen in torch.split(shuffled, config.rows_per_step):
            loss = F.binary_cross_entropy_with_logits(classifier.log_odds(features[chosen]), bought[chosen])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            curve("loss", float(loss.detach()), schedule.last_epoch)
            done(len(chosen))
    return classifier.eval()


def calibrate(classifier: PurchaseClassifier, examples: PurchaseExamples) -> None:
    """Set scale and shift of the log-odds to the maximum likelihood on the examples.

    Platt, Probabilistic Outputs for Support Vector Machines, 1999. Temperature scaling has no shift; the shift follows
    the purchase rate, which changes from week to week.
    """
    log_odds = _in_batches(classifier.log_odds, examples.features)[:, None]
    line = LogisticRegression(C=np.inf).fit(log_odds, examples.bought)
    classifier.scale.fill_(float(line.coef_[0, 0]))
    classifier.shift.fill_(float(line.intercept_[0]))


def probabilities(classifier: PurchaseClassifier, examples: PurchaseExamples) -> NDArray[np.float64]:
    """Probability of a purchase for each example [N]."""
    return _in_batches(classifier, examples.features)


def _require_purchases(part: PurchaseExamples, purpose: str, min_purchases: int) -> None:
    purchases = int(part.bought.sum())
    if purchases < min_purchases or part.bought.all():
        raise NoPurchaseHead(
            f"{purchases} of {len(part)} items on slates to {purpose} were bought: "
            f"at least {min_purchases} must be, and not all of them"
        )


@torch.no_grad()
def _in_batches(function: Callable[[Tensor], Tensor], features: NDArray[np.float32]) -> NDArray[np.float64]:
    """The function's values [N] for features [N, F]."""
    parts = [function(part) for part in torch.split(torch.from_numpy(features), INFERENCE_ROWS)]
    return torch.cat(parts).double().numpy()
