"""LRURec.

Yue, Wang, He, Zeng, McAuley and Wang, Linear Recurrent Units for Sequential Recommendation, WSDM 2024.

Settings, from section 5.1 of the paper and `config.py` of the authors' repository: 64 dimensions, 2 blocks, the newest
50 items, 128 sequences a step, AdamW at 0.001, weight decay 0.01, gradients clipped to a norm of 5, cross entropy over
all items, at most 500 epochs, patience of 10 validations on Recall@10. The paper validates every 500 to 2,000 steps, by
the size of the set: 500 here. Of its grid of dropouts, 0.6 is the best on its sparse sets, Video and Beauty (figure 4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from tests.benchmarks.peers.sequential.examples import Packing
from tests.benchmarks.peers.sequential.network import PeerNetwork, PeerTraining, full_cross_entropy

TRAINING = PeerTraining(
    metric="recall",
    max_epochs=500,
    epsilon=1e-9,
    weight_decay=0.01,
    max_gradient_norm=5.0,
    steps_per_validation=500,
    first_items=True,
    all_events=True,
)
LONG_HISTORIES = replace(TRAINING, window=200, steps_per_validation=100)
"""A step reads some ten times as many events as on the sparse sets, so it validates after fewer steps."""
LONG_HISTORIES_DROPOUT = 0.2
MIN_RADIUS, MAX_RADIUS = 0.8, 0.99
"""Of the eigenvalues at the start."""


@dataclass(frozen=True)
class LruRecConfig:
    """Size of the network."""

    dims: int = 64
    blocks: int = 2
    dropout: float = 0.6


class LruRec(PeerNetwork):
    """Its item number `items` stands for the time before a sequence's first item."""

    def __init__(self, items: int, config: LruRecConfig) -> None:
        super().__init__()
        self.items = items
        self.item = nn.Embedding(items + 1, config.dims)
        self.bias = nn.Parameter(torch.zeros(items + 1))
        self.dropout = nn.Dropout(config.dropout)
        self.norm = nn.LayerNorm(config.dims)
        self.blocks = nn.ModuleList(LruRecBlock(config) for _ in range(config.blocks))
        self._initialise()

    def forward(self, item: Tensor, packing: Packing) -> Tensor:
        """See `PeerNetwork`."""
        x = self.norm(self.dropout(self.item(item)))  # [N, d]
        for block in self.blocks:
            x = block(x, packing)
        return torch.as_tensor(x)

    def loss(self, user: Tensor, target: Tensor) -> Tensor:
        """See `PeerNetwork`."""
        return full_cross_entropy(user, target, self.item.weight, self.bias)

    def scores(self, user: Tensor) -> Tensor:
        """See `PeerNetwork`."""
        return user @ self.item.weight[:-1].T + self.bias[:-1]

    def _initialise(self) -> None:
        norms = {id(value) for part in self.modules() if isinstance(part, nn.LayerNorm) for value in part.parameters()}
        for name, value in self.named_parameters():
            if id(value) not in norms and not name.endswith("log_rates"):
                nn.init.trunc_normal_(value, std=0.02, a=-0.04, b=0.04)


class LruRecBlock(nn.Module):
    """A linear recurrence, then a position-wise feed-forward layer; each with a residual connection, then a norm."""

    def __init__(self, config: LruRecConfig) -> None:
        super().__init__()
        dims = config.dims
        self.recurrence = ComplexRecurrence(dims, 2 * dims)
        self.dropout = nn.Dropout(config.dropout)
        self.norm, self.feed_forward_norm = nn.LayerNorm(dims), nn.LayerNorm(dims)
        self.feed_forward = nn.Sequential(
            nn.Linear(dims, 4 * dims),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(4 * dims, dims),
            nn.Dropout(config.dropout),
        )

    def forward(self, x: Tensor, packing: Packing) -> Tensor:
        """[N, d] → [N, d]"""
        x = self.norm(self.dropout(self.recurrence(x, packing)) + x)
        return torch.as_tensor(self.feed_forward_norm(self.feed_forward(x) + x))


class ComplexRecurrence(nn.Module):
    """h(t) = λ · h(t - 1) + g · (B x(t)), y(t) = Re(C h(t)). λ (diagonal), B and C are complex, g is real."""

    def __init__(self, dims: int, states: int) -> None:
        super().__init__()
        radius2 = torch.rand(states) * (MAX_RADIUS**2 - MIN_RADIUS**2) + MIN_RADIUS**2
        decay, angle = -0.5 * radius2.log(), 2 * math.pi * torch.rand(states)
        self.log_rates = nn.Parameter(torch.stack([decay, angle, (1 - radius2).sqrt()]).log())  # [3, states]
        self.read = nn.Linear(dims, 2 * states)  # B: real and imaginary parts
        self.write = nn.Linear(2 * states, dims)  # C: the same

    def forward(self, x: Tensor, packing: Packing) -> Tensor:
        """[N, d] → [N, d]"""
        decay, angle, gain = self.log_rates.exp()
        read = torch.view_as_complex(self.read(x).unflatten(1, (-1, 2))) * gain  # [N, states]
        state = _accumulate(read, torch.complex(-decay, angle), packing)
        return torch.as_tensor(self.write(torch.view_as_real(state).flatten(1)))


def _accumulate(x: Tensor, log_rate: Tensor, packing: Packing) -> Tensor:
    """Each position's sum of x [N, s] of its sequence so far, decayed by exp(log_rate) [s] a position.

    In log2(L) passes: after each, a position has the sum of twice as many (Hillis and Steele, 1986).
    """
    step = 1
    while step < int(packing.length.max()):
        earlier = torch.where((packing.place[step:] >= step)[:, None], x[:-step] * (step * log_rate).exp(), 0)
        x = torch.cat([x[:step], x[step:] + earlier])
        step *= 2
    return x
