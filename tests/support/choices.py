"""Choices with known probabilities, to see which probabilities a loss over sampled negatives teaches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.networks.sampled_softmax import Negatives, NegativeSampler, Targets

SHARES = np.array([0.5] + [0.01] * 50)
"""True probability of every item."""
TARGETS, NEGATIVES, STEPS = 256, 512, 200


def learned_shares(loss: Callable[[Tensor, Targets, Negatives], Tensor]) -> NDArray[np.float64]:
    """The softmax [items] of one free logit per item, trained from equal logits on draws from `SHARES`.

    `loss` takes the logits [items], targets and negatives whose vectors are one-hot.
    """
    random, items = np.random.default_rng(0), len(SHARES)
    sampler = NegativeSampler.from_items(np.repeat(np.arange(items), (1000 * SHARES).astype(int)), items)
    logits, one_hot = torch.zeros(items, requires_grad=True), torch.eye(items)
    optimiser = torch.optim.Adam([logits], lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        negatives = sampler.sample(NEGATIVES, random, lambda drawn: one_hot[torch.from_numpy(drawn)])
        chosen = random.choice(items, TARGETS, p=SHARES)
        optimiser.zero_grad()
        loss(logits, Targets(chosen, one_hot[torch.from_numpy(chosen)]), negatives).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return torch.softmax(logits.detach().double(), dim=0).numpy()
