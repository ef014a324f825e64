"""Sampled softmax over the catalogue: mixed negatives with logQ correction, without accidental hits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.data.sequences import Positions, Sequences, SequenceWindows

UNSAMPLED_PROBABILITY = 1e-12
"""Stands for the probability 0 of items that are never sampled, so that its logarithm is finite."""
EXACT_UP_TO = 4
"""A pool of up to this many times the negatives asked for is used whole: the softmax over it is exact."""
CHUNK = 128
"""Prediction points whose logits are in memory at once: they stay in a core's cache."""
EXCLUDED = -1e9
"""Logit of a negative that does not count. Finite, because a divergence multiplies it by the probability 0."""


@dataclass(frozen=True)
class Negatives:
    """n items that all prediction points of a step share."""

    items: Positions  # [n], item numbers
    vectors: Tensor  # [n, d]
    log_expected_count: Tensor  # [n], log of how often each item is expected in the whole sample

    def __len__(self) -> int:
        return len(self.items)

    def only(self, chosen: NDArray[np.bool_]) -> Negatives:
        """The chosen [n] ones. The sums that they estimate are over the items that could be chosen."""
        index = torch.from_numpy(np.flatnonzero(chosen))
        return Negatives(self.items[chosen], self.vectors[index], self.log_expected_count[index])

    def detach(self) -> Negatives:
        """The same without a gradient."""
        return replace(self, vectors=self.vectors.detach())

    def logits(self, users: Tensor, excluded: Tensor) -> Tensor:
        """Users [m, d] → logits [m, n], `EXCLUDED` where the mask `excluded` [m, n] is set.

        The sum of their exponentials is an unbiased estimate of the sum over all items that are not excluded, whatever
        the sampling probabilities (logQ correction): Yi et al., Sampling-Bias-Corrected Neural Modeling for Large
        Corpus Item Recommendations, RecSys 2019.
        """
        return (users @ self.vectors.T - self.log_expected_count).masked_fill(excluded, EXCLUDED)


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

    def draw(self, n: int, random: np.random.Generator, vectors: Callable[[Positions], Tensor]) -> Negatives:
        """A `sample` of n items, or every item of a small pool once: see `EXACT_UP_TO`."""
        if len(self.pool) <= EXACT_UP_TO * n:
            return Negatives(self.pool, vectors(self.pool), torch.zeros(len(self.pool)))
        return self.sample(n, random, vectors)

    def sample(self, n: int, random: np.random.Generator, vectors: Callable[[Positions], Tensor]) -> Negatives:
        """n items, drawn with replacement; `vectors` gives the vectors [n, d] of item numbers [n]."""
        popular = np.searchsorted(self.cumulative, random.random(n // 2) * self.cumulative[-1])
        drawn = self.pool[np.r_[popular, random.integers(len(self.pool), size=n - n // 2)]]
        log_expected_count = self.log_probability[torch.from_numpy(drawn)] + math.log(n)
        return Negatives(drawn, vectors(drawn), log_expected_count)


@dataclass(frozen=True)
class Targets:
    """m items that users chose, one per prediction point."""

    items: NDArray[np.integer]  # [m], item numbers
    vectors: Tensor  # [m, d]

    def detach(self) -> Targets:
        """The same without a gradient."""
        return replace(self, vectors=self.vectors.detach())


def choice_logits(users: Tensor, targets: Targets, negatives: Negatives) -> Tensor:
    """Logits [m, 1 + n] of users [m, d] choosing their target, first, or one of the negatives.

    A negative that is the target itself (an accidental hit) is excluded: it would count the target twice, and so teach
    a probability that is too low.
    """
    target = (users * targets.vectors).sum(-1, keepdim=True)  # [m, 1]
    accidental = torch.from_numpy(targets.items[:, None] == negatives.items)  # [m, n]
    return torch.cat([target, negatives.logits(users, accidental)], dim=1)


def sampled_softmax(users: Tensor, targets: Targets, negatives: Negatives) -> Tensor:
    """Mean cross-entropy of users [m, d] choosing their targets among all items that can be sampled; 0 if m is 0.

    The target counts once and exactly, all other items by their sampled sum, whose expectation is the sum over them. So
    for many negatives the loss is lowest where the softmax has the true probabilities. With few it is not exactly
    there: the logarithm of an unbiased estimate is biased.
    """
    if not len(users):
        return users.sum()
    items = torch.from_numpy(targets.items), torch.from_numpy(negatives.items)
    loss: Tensor = _ChunkedSoftmax.apply(users, targets.vectors, negatives.vectors, negatives.log_expected_count, items)
    return loss


class _ChunkedSoftmax(torch.autograd.Function):
    """`sampled_softmax` with its gradient computed in the same pass, a chunk of prediction points at a time.

    So all logits are never in memory together, which takes less than half of the time on a processor.
    `torch.nn.functional.linear_cross_entropy` does the same for a softmax without logQ correction, but allows only one
    backward pass, and a strategy may need two.
    """

    @staticmethod
    def forward(
        context: Any,
        users: Tensor,
        targets: Tensor,
        negatives: Tensor,
        log_expected_count: Tensor,
        items: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Vectors of users and targets [m, d] and negatives [n, d], log counts [n], items [m] and [n] → scalar."""
        target_items, negative_items = items
        of_users, of_targets, of_negatives = (torch.zeros_like(vectors) for vectors in (users, targets, negatives))
        loss, correction = users.new_zeros(()), -log_expected_count
        for user, target, item, of_user, of_target in zip(
            *(torch.split(rows, CHUNK) for rows in (users, targets, target_items, of_users, of_targets)), strict=True
        ):
            own = (user * target).sum(1, keepdim=True)  # [chunk, 1]
            logits = torch.addmm(correction, user, negatives.T)  # [chunk, n]
            logits.masked_fill_(item[:, None] == negative_items, EXCLUDED)
            highest = torch.maximum(logits.amax(1, keepdim=True), own)
            others, chosen = logits.sub_(highest).exp_(), (own - highest).exp()
            total = others.sum(1, keepdim=True) + chosen
            loss += (total.log() + highest - own).sum()
            error = chosen / total - 1  # [chunk, 1], of the target's probability
            of_user.copy_((others @ negatives) / total + error * target)
            of_target.copy_(error * user)
            of_negatives.addmm_(others.T, user / total)
        context.save_for_backward(of_users / len(users), of_targets / len(users), of_negatives / len(users))
        return loss / len(users)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """See `torch.autograd.Function`."""
        (gradient,) = gradients
        return *(gradient * saved for saved in context.saved_tensors), None, None


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
    show what the user wants, and new draws in every epoch get more out of the same log. Only events with an item count
    as gap or target. `targets` [N] is a mask of the rows that may be drawn; None: all with an item.

    Returns a mask [B, L] of the prediction points, and the target rows in the order of the mask.
    """
    visit = sequences.visits_until[windows.row] - 1 + random.geometric(1 / mean_gap, windows.row.shape)  # [B, L]
    mask = windows.present & (visit < sequences.visits_until[windows.end - 1])
    target = sequences.visit_row[np.minimum(visit, len(sequences.visit_row) - 1)]  # [B, L]
    if targets is not None:
        mask &= targets[target]
    surplus = int(mask.sum()) - max_targets
    if surplus > 0:
        points = np.flatnonzero(mask)
        mask.ravel()[random.choice(points, surplus, replace=False)] = False
    return mask, target[mask]
