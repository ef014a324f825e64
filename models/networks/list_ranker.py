"""The learned order over candidates: a small network over their features, trained on whole lists."""

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
"""Standard deviations beyond which a feature tells no more."""


@dataclass(frozen=True)
class ListRankerConfig:
    """Size of the network, and how it is trained."""

    hidden: int = 32
    epochs: int = 4
    lists_per_step: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    discover_share: float = 0.5
    """Share of the lists with a positive new to the user that are trained without the user's own items."""


@dataclass(frozen=True)
class RankingLists:
    """n lists of candidates, end to end; list i is rows `offset[i]` to `offset[i + 1]` of the features."""

    features: Floats  # [N, F]
    own: NDArray[np.bool_]  # [N], the candidate is one of the user's own items
    offset: Positions  # [n + 1]
    positive: Positions  # [n], row of the item that came, within its list

    def __len__(self) -> int:
        return len(self.positive)

    @classmethod
    def concatenate(cls, parts: list[RankingLists]) -> RankingLists:
        """The parts' lists end to end."""
        sizes = np.concatenate([np.diff(part.offset) for part in parts])
        return cls(
            features=np.concatenate([part.features for part in parts]),
            own=np.concatenate([part.own for part in parts]),
            offset=np.concatenate([[0], np.cumsum(sizes)]),
            positive=np.concatenate([part.positive for part in parts]),
        )


class ListRanker(nn.Module):
    """Features, normalised inside, through two hidden layers beside a straight line."""

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
        """Take mean and deviation [F] from features [N, F]; those that never change are left as they are."""
        deviation = features.std(axis=0)
        self.mean.copy_(torch.from_numpy(features.mean(axis=0)))
        self.deviation.copy_(torch.from_numpy(np.where(deviation > 1e-6, deviation, 1.0).astype(np.float32)))

    def forward(self, features: Tensor) -> Tensor:
        """Features [B, K, F] → scores [B, K].

        All of it products of matrices [B * K, …] with a bias, the normalisation too, and rectifiers: ONNX Runtime makes
        one pass over memory of each. Broadcasting mean and deviation, and GELU, took three quarters of the time.
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
    """Train on the softmax over each list: the item that came against all others.

    Cao et al., Learning to Rank: From Pairwise Approach to Listwise Approach, ICML 2007 (ListNet, top one). Some
    lists whose item was new to the user lose the user's own items, so that the order also serves discovery. With a
    `parent` it starts from there, and keeps the size and normalisation it finds.
    `done(n)` is told of every n lists learned from, and `curve` of the loss.
    """
    if not len(lists):
        raise ValueError("no list to learn an order from: no candidate was ever what came next")
    torch.manual_seed(random_seed)
    random = np.random.default_rng(random_seed)
    if parent is None:
        order = ListRanker(lists.features.shape[1], config.hidden)
        order.normalise_for(lists.features)
    else:
        order = deepcopy(parent).train()
    steps = config.epochs * -(-len(lists) // config.lists_per_step)
    optimiser = torch.optim.AdamW(order.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, total_steps=steps, pct_start=0.1)
    for _ in range(config.epochs):
        shuffled = random.permutation(len(lists))
        for start in range(0, len(lists), config.lists_per_step):
            chosen = shuffled[start : start + config.lists_per_step]
            cost = loss(order, lists, chosen, random.random(len(chosen)) < config.discover_share)
            optimiser.zero_grad()
            cost.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            curve("loss", float(cost.detach()), schedule.last_epoch)
            done(len(chosen))
    return order.eval()


def loss(order: ListRanker, lists: RankingLists, chosen: Positions, discover: NDArray[np.bool_]) -> Tensor:
    """Mean cross-entropy over the chosen lists [B], those in `discover` [B] without own items where they may be."""
    sizes = np.diff(lists.offset)[chosen]
    rows = np.minimum(lists.offset[chosen][:, None] + np.arange(sizes.max()), len(lists.features) - 1)  # [B, K]
    present = np.arange(sizes.max()) < sizes[:, None]
    own = lists.own[rows]
    positive_is_new = ~lists.own[lists.offset[chosen] + lists.positive[chosen]]
    present &= ~(own & (discover & positive_is_new)[:, None])
    scores = order(torch.from_numpy(lists.features[rows]))  # [B, K]
    scores = scores.masked_fill(torch.from_numpy(~present), -torch.inf)
    return F.cross_entropy(scores, torch.from_numpy(lists.positive[chosen]))
