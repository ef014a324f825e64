"""Sampled softmax over the catalogue: mixed negatives with logQ correction."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.data.sequences import Positions, Sequences, SequenceWindows

UNSAMPLED_PROBABILITY = 1e-12
"""Stands for the probability 0 of items that are never sampled, so that its logarithm is finite."""


@dataclass(frozen=True)
class NegativeSampler:
    """Samples items, half by popularity and half uniformly.

    Yang et al., Mixed Negative Sampling for Learning Two-tower Neural Networks in Recommendations, WWW 2020.
    """

    pool: Positions  # [n], items that can be sampled
    cumulative: NDArray[np.float64]  # [n], cumulative popularity
    log_probability: Tensor  # [items], log-probability of the mixture, by item number

    @classmethod
    def from_items(cls, items: NDArray[np.integer], catalogue_size: int) -> NegativeSampler:
        """Popularity is counted in `items`, the items of a log's events; items without events are never sampled."""
        counts = np.bincount(items, minlength=catalogue_size).astype(np.float64)
        pool = np.flatnonzero(counts)
        share = counts / counts.sum()
        mixture = np.where(counts > 0, 0.5 * share + 0.5 / len(pool), UNSAMPLED_PROBABILITY)
        return cls(pool, np.cumsum(share[pool]), torch.from_numpy(np.log(mixture).astype(np.float32)))

    def draw(self, n: int, random: np.random.Generator) -> Positions:
        """n item numbers, with replacement."""
        popular = np.searchsorted(self.cumulative, random.random(n // 2) * self.cumulative[-1])
        return self.pool[np.r_[popular, random.integers(len(self.pool), size=n - n // 2)]]


def sampled_softmax(users: Tensor, positives: Tensor, negatives: Tensor, log_q: Tensor) -> Tensor:
    """Mean cross-entropy of users [B, d] choosing positives [B, d] against shared negatives [n, d]; 0 if B is 0.

    `log_q` [n] is the log of the probability with which each negative is sampled. Subtracting it makes the sampled sum
    an unbiased estimate of the sum over the catalogue: Yi et al., Sampling-Bias-Corrected Neural Modeling for Large
    Corpus Item Recommendations, RecSys 2019.
    """
    if not len(users):
        return users.sum()
    positive = (users * positives).sum(-1, keepdim=True)  # [B, 1]
    negative = users @ negatives.T - log_q - math.log(len(negatives))  # [B, n]
    return (torch.logsumexp(torch.cat([positive, negative], dim=1), dim=1) - positive[:, 0]).mean()


def draw_targets(
    sequences: Sequences,
    windows: SequenceWindows,
    mean_gap: float,
    max_targets: int,
    random: np.random.Generator,
    targets: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.bool_], Positions]:
    """Choose up to `max_targets` prediction points of the windows, and for each a later event of the same user.

    The gap to the target is drawn from a geometric distribution with mean `mean_gap`: events after the next one also
    show what the user wants, and new draws in every epoch get more out of the same log. `targets` [N] is a mask of the
    rows that may be drawn; None: all.

    Returns a mask [B, L] of the prediction points, and the target rows in the order of the mask.
    """
    target = windows.row + random.geometric(1 / mean_gap, windows.row.shape)
    mask = windows.present & (target < windows.end)
    if targets is not None:
        mask &= targets[np.minimum(target, len(targets) - 1)]
    surplus = int(mask.sum()) - max_targets
    if surplus > 0:
        points = np.flatnonzero(mask)
        mask.ravel()[random.choice(points, surplus, replace=False)] = False
    return mask, target[mask]
