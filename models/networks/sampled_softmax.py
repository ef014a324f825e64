"""Softmax over a catalogue by sampling: mixed negatives, corrected for how often they are drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.data.sequences import Sequences, SequenceWindows

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class NegativeSampler:
    """Draws items half by popularity, half evenly.

    Yang et al., Mixed Negative Sampling for Learning Two-tower Neural Networks in Recommendations, WWW 2020.
    """

    pool: Positions  # [n] every item that may be drawn
    cumulative: NDArray[np.float64]  # [n] of the popularity part
    log_probability: Tensor  # [items], by item number; of the mixture

    @classmethod
    def from_items(cls, items: NDArray[np.integer], catalogue: int) -> NegativeSampler:
        """Popularity counted over `items`, the events of a log; only items in it are drawn."""
        counts = np.bincount(items, minlength=catalogue).astype(np.float64)
        pool = np.flatnonzero(counts)
        share = counts / counts.sum()
        mixture = np.where(counts > 0, 0.5 * share + 0.5 / len(pool), 1e-12)
        return cls(pool, np.cumsum(share[pool]), torch.from_numpy(np.log(mixture).astype(np.float32)))

    def draw(self, n: int, random: np.random.Generator) -> Positions:
        """n item numbers."""
        popular = np.searchsorted(self.cumulative, random.random(n // 2) * self.cumulative[-1])
        return self.pool[np.r_[popular, random.integers(len(self.pool), size=n - n // 2)]]


def sampled_softmax(users: Tensor, positives: Tensor, negatives: Tensor, log_probability: Tensor) -> Tensor:
    """Mean cross-entropy of users [B, d] choosing positives [B, d] against shared negatives [n, d]; 0 for no user.

    `log_probability` [n] is each negative's chance to be drawn; subtracting it makes the sampled sum an unbiased
    estimate of the whole catalogue's: Yi et al., Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
    Recommendations, RecSys 2019.
    """
    if not len(users):
        return users.sum()
    positive = (users * positives).sum(-1, keepdim=True)  # [B, 1]
    negative = users @ negatives.T - log_probability - math.log(len(negatives))  # [B, n]
    return (torch.logsumexp(torch.cat([positive, negative], dim=1), dim=1) - positive[:, 0]).mean()


def draw_targets(
    sequences: Sequences,
    windows: SequenceWindows,
    mean_target_gap: float,
    most: int,
    random: np.random.Generator,
    targets: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.bool_], Positions]:
    """Pick up to `most` places of the windows, and for each a row further on in the same user's sequence.

    How far on is drawn from a geometric distribution with mean `mean_target_gap`: what comes after the next event is as
    much the user's wish as what comes next, and fresh draws make more of the same log. `targets` [N] are the rows that
    may be drawn, None: all.

    Returns where [B, L] (a mask over the windows' places) and the target rows in that mask's order.
    """
    target = windows.row + random.geometric(1 / mean_target_gap, windows.row.shape)
    allowed = windows.present & (target < windows.end)
    if targets is not None:
        allowed &= targets[np.minimum(target, len(targets) - 1)]
    surplus = int(allowed.sum()) - most
    if surplus > 0:
        places = np.flatnonzero(allowed)
        allowed.ravel()[random.choice(places, surplus, replace=False)] = False
    return allowed, target[allowed]
