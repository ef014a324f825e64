"""The list ranker: a small network over candidate features, trained on whole lists of candidates."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from models.networks.stored_names import store_weights_as
from models.training_curves import Curve, no_curve

Floats = NDArray[np.float32]
Positions = NDArray[np.int64]

CLAMP = 8.0
"""Normalised features are clamped to this many standard deviations."""
CONSTANT_DEVIATION = 1e-6
"""A feature with a smaller standard deviation is constant, and is not scaled."""


@dataclass(frozen=True)
class ListRankerConfig:
    """Size and training of the network."""

    hidden: int = 32
    epochs: int = 4
    lists_per_step: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    class_weight: float = 1.0
    """Weight of the loss among the items of the positive's class alone, those that the user has had or those that are
    new: what placements that show one class need. 0: only the loss among all candidates counts."""
    session_start_weight: float = 1.0
    """Weight of a list whose event begins a session, where others have 1. Such lists are few, and theirs are the slates
    that users find when they come back."""


@dataclass(frozen=True)
class RankingLists:
    """n lists of candidates, concatenated: list i is rows `offset[i]` to `offset[i + 1]` of the features."""

    features: Floats  # [N, F]
    own: NDArray[np.bool_]  # [N], the user has had the item
    offset: Positions  # [n + 1]
    positive: Positions  # [n], index within its list of the item that the user chose next
    begins_session: NDArray[np.bool_]  # [n], the event about that item is the first of a session

    def __len__(self) -> int:
        return len(self.positive)

    @classmethod
    def concatenate(cls, parts: list[RankingLists]) -> RankingLists:
        """All lists of the parts, in order."""
        sizes = np.concatenate([np.diff(part.offset) for part in parts])
        return cls(
            features=np.concatenate([part.features for part in parts]),
            own=np.concatenate([part.own for part in parts]),
            offset=np.concatenate([[0], np.cumsum(sizes)]),
            positive=np.concatenate([part.positive for part in parts]),
            begins_session=np.concatenate([part.begins_session for part in parts]),
        )


class ListRanker(nn.Module):
    """Normalises features, and adds a linear function of them to a network with two hidden layers."""

    mean: Tensor
    deviation: Tensor
    unit: Tensor

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        self.register_buffer("unit", torch.eye(features), persistent=False)
        self.enter = nn.Linear(features, hidden)
        self.mix = nn.Linear(hidden, hidden)
        self.leave = nn.Linear(hidden, 1)
        self.linear_skip = nn.Linear(features, 1, bias=False)
        store_weights_as(self, {"linear_skip": "straight"})

    def normalise_for(self, features: Floats) -> None:
        """Set mean and deviation [F] from features [N, F]; constant features are not scaled."""
        deviation = features.std(axis=0)
        scaled = np.where(deviation > CONSTANT_DEVIATION, deviation, 1.0).astype(np.float32)
        self.mean.copy_(torch.from_numpy(features.mean(axis=0)))
        self.deviation.copy_(torch.from_numpy(scaled))

    def forward(self, features: Tensor) -> Tensor:
        """Features [B, K, F] → scores [B, K].

        Everything, normalisation included, is a matrix product [B · K, …] with bias, or ReLU, because ONNX Runtime runs
        each of these in one pass over memory. A broadcast mean and deviation, and GELU, took 3/4 of the time.
        """
        flat = features.reshape(-1, features.shape[-1])  # [B * K, F]
        normal = F.linear(flat, self.unit / self.deviation[:, None], -self.mean / self.deviation).clamp(-CLAMP, CLAMP)
        hidden = F.relu(self.mix(F.relu(self.enter(normal))))  # [B * K, hidden]
        scores: Tensor = self.leave(hidden) + self.linear_skip(normal)  # [B * K, 1]
        return scores.reshape(features.shape[:-1])


def fit_list_ranker(
    lists: RankingLists,
    config: ListRankerConfig,
    random_seed: int,
    done: Callable[[int], None] = lambda n: None,
    curve: Curve = no_curve,
    parent: ListRanker | None = None,
) -> ListRanker:
    """Train with the softmax cross-entropy of each list's positive against its other candidates.

    Cao et al., Learning to Rank: From Pairwise Approach to Listwise Approach, ICML 2007 (ListNet, top one). With a
    `parent` it starts from the parent's weights, size and normalisation. `done(n)` is called after every n lists, and
    `curve` with the loss of every step. Raises `ValueError` without lists.
    """
    if not len(lists):
        raise ValueError("no list to train the ranker on: the next item was never among the candidates")
    torch.manual_seed(random_seed)
    random = np.random.default_rng(random_seed)
    if parent is None:
        ranker = ListRanker(lists.features.shape[1], config.hidden)
        ranker.normalise_for(lists.features)
    else:
        ranker = deepcopy(parent).train()
    steps = config.epochs * -(-len(lists) // config.lists_per_step)
    optimiser = torch.optim.AdamW(ranker.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, total_steps=steps, pct_start=0.1)
    for _ in range(config.epochs):
        shuffled = random.permutation(len(lists))
        for start in range(0, len(lists), config.lists_per_step):
            chosen = shuffled[start : start + config.lists_per_step]
            loss = list_loss(ranker, lists, chosen, config)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            curve("loss", float(loss.detach()), schedule.last_epoch)
            done(len(chosen))
    return ranker.eval()


def list_loss(ranker: ListRanker, lists: RankingLists, chosen: Positions, config: ListRankerConfig) -> Tensor:
    """Mean cross-entropy of the chosen lists [B], each with its weight: among all candidates, and `class_weight` times
    that among those of the positive's class: the items that the user has had, or the others."""
    sizes = np.diff(lists.offset)[chosen]
    rows = np.minimum(lists.offset[chosen][:, None] + np.arange(sizes.max()), len(lists.features) - 1)  # [B, K]
    present = np.arange(sizes.max()) < sizes[:, None]
    positive = torch.from_numpy(lists.positive[chosen])
    weight = torch.from_numpy(np.where(lists.begins_session[chosen], config.session_start_weight, 1.0)).float()
    scores = ranker(torch.from_numpy(lists.features[rows]))  # [B, K]

    def loss_among(candidates: NDArray[np.bool_]) -> Tensor:
        logits = scores.masked_fill(torch.from_numpy(~candidates), -torch.inf)
        return (weight * F.cross_entropy(logits, positive, reduction="none")).sum() / weight.sum()

    if not config.class_weight:
        return loss_among(present)
    positive_is_own = lists.own[lists.offset[chosen] + lists.positive[chosen]]
    of_class = present & (lists.own[rows] == positive_is_own[:, None])
    return loss_among(present) + config.class_weight * loss_among(of_class)
