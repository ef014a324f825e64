"""The purchase head: how probable it is that the user buys a candidate within a horizon, from the order's features."""

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

ROWS_AT_ONCE = 1 << 16
"""Examples that one forward pass goes through where nothing is learned."""


@dataclass(frozen=True)
class PurchaseConfig:
    """What the head learns from, and how."""

    examples: PurchaseExampleConfig = field(default_factory=PurchaseExampleConfig)
    held_out: float = 0.2
    """Share of the moments that calibrates, and as large a share, the newest, that measures."""
    purchases: int = 20
    """Examples bought that each part needs: with fewer there is no head."""
    hidden: int = 32
    epochs: int = 4
    rows_per_step: int = 4096
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4


class PurchaseClassifier(nn.Module):
    """A network like the order's whose score is a log-odds, put right by a straight line."""

    scale: Tensor
    shift: Tensor

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.network = ListRanker(features, hidden)
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("shift", torch.zeros(()))

    def log_odds(self, features: Tensor) -> Tensor:
        """Features [..., F] → log-odds of a purchase [...], not calibrated."""
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
    """Train on the oldest moments, calibrate on later ones and measure on the newest.

    The horizons of neighbouring parts overlap, so a purchase may count in two of them; but the features name neither
    user nor item, by which the head could know it again. Raises `NoPurchaseHead` where a part has too few purchases.
    `done(n)` is told of every n examples learned from, and `curve` of the loss.
    """
    learned, calibrating, unseen = examples.split(1 - 2 * config.held_out, 1 - config.held_out)
    for part, name in ((learned, "learn from"), (calibrating, "calibrate with"), (unseen, "measure on")):
        if part.bought.sum() < config.purchases or part.bought.all():
            raise NoPurchaseHead(
                f"of {len(part)} candidates to {name}, {part.bought.sum()} were bought: "
                f"{config.purchases} at least must be, and not all"
            )
    head = fit_head(learned, config, random_seed, done, curve)
    calibrate(head, calibrating)
    threshold = best_f1_threshold(probabilities(head, learned), learned.bought)
    return head, PurchaseMetrics.from_probabilities(probabilities(head, unseen), unseen.bought, threshold)


def fit_head(
    examples: PurchaseExamples, config: PurchaseConfig, random_seed: int, done: Callable[[int], None], curve: Curve
) -> PurchaseClassifier:
    """Train on the cross-entropy of each example. It begins at the share of purchases, not at one half."""
    torch.manual_seed(random_seed)
    random = np.random.default_rng(random_seed)
    head = PurchaseClassifier(examples.features.shape[1], config.hidden)
    head.network.normalise_for(examples.features)
    share = examples.bought.mean()
    nn.init.constant_(head.network.leave.bias, float(np.log(share / (1 - share))))
    steps = config.epochs * -(-len(examples) // config.rows_per_step)
    optimiser = torch.optim.AdamW(head.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, total_steps=steps, pct_start=0.1)
    features, bought = torch.from_numpy(examples.features), torch.from_numpy(examples.bought).float()
    for _ in range(config.epochs):
        shuffled = torch.from_numpy(random.permutation(len(examples)))
        for chosen in torch.split(shuffled, config.rows_per_step):
            cost = F.binary_cross_entropy_with_logits(head.log_odds(features[chosen]), bought[chosen])
            optimiser.zero_grad()
            cost.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            curve("loss", float(cost.detach()), schedule.last_epoch)
            done(len(chosen))
    return head.eval()


def calibrate(head: PurchaseClassifier, examples: PurchaseExamples) -> None:
    """Put the log-odds right by the straight line that makes the examples likeliest.

    Platt, Probabilistic Outputs for Support Vector Machines, 1999. A slope of 1 / T and no shift would be temperature
    scaling; the shift also follows how often people buy, which changes from week to week.
    """
    log_odds = _by_rows(head.log_odds, examples.features)[:, None]
    line = LogisticRegression(C=np.inf).fit(log_odds, examples.bought)
    head.scale.fill_(float(line.coef_[0, 0]))
    head.shift.fill_(float(line.intercept_[0]))


def probabilities(head: PurchaseClassifier, examples: PurchaseExamples) -> NDArray[np.float64]:
    """Of a purchase, for each example [N]."""
    return _by_rows(head, examples.features)


@torch.no_grad()
def _by_rows(function: Callable[[Tensor], Tensor], features: NDArray[np.float32]) -> NDArray[np.float64]:
    """The function's values [N] of features [N, F]."""
    parts = [function(part) for part in torch.split(torch.from_numpy(features), ROWS_AT_ONCE)]
    return torch.cat(parts).double().numpy()
