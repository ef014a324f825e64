"""The networks: their interface, and how each is trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import LinearCrossEntropyOptions
from torch.nn import functional as F

from tests.benchmarks.peers.sequential.examples import Packing

CHUNK = LinearCrossEntropyOptions(batch_chunk_size=128)
"""Positions whose scores of all items are in memory at once. Changes the time only: less than half on a processor."""


@dataclass(frozen=True)
class PeerTraining:
    """How a network is trained. The learning rate is constant."""

    metric: Literal["recall", "ndcg"]
    """The best weights are those with the highest figure at 10 on the validation targets."""
    max_epochs: int
    window: int = 50
    """Newest items that the network reads."""
    sequences_per_step: int = 128
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    """Of matrices; biases and the parameters of norms have none."""
    max_gradient_norm: float | None = None
    steps_per_validation: int | None = None
    """None: an epoch."""
    patience: int = 10
    """Validations without a better figure until training ends."""
    first_items: bool = False
    """The first item of a sequence is a target too."""
    all_events: bool = False
    """Long sequences are cut into windows; otherwise what lies before the last window is not learned from."""


class PeerNetwork(nn.Module, ABC):
    """A causal network on item numbers."""

    @abstractmethod
    def forward(self, item: Tensor, packing: Packing) -> Tensor:
        """Items [N] → user vectors [N, d], each from the items of its sequence up to it."""

    @abstractmethod
    def loss(self, user: Tensor, target: Tensor) -> Tensor:
        """Mean loss of user vectors [N, d] before the target items [N]."""

    @abstractmethod
    def scores(self, user: Tensor) -> Tensor:
        """Scores of all items [B, items] for user vectors [B, d]."""


def full_cross_entropy(user: Tensor, target: Tensor, item: Tensor, bias: Tensor | None = None) -> Tensor:
    """Mean cross entropy of targets [N] among all items [C, d], for user vectors [N, d]."""
    return F.linear_cross_entropy(user, item, target, linear_bias=bias, options=CHUNK)


def split_heads(x: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """[B, L, 3 · d] → three of [B, heads, L, d / heads]"""
    first, second, third = x.view(*x.shape[:2], 3, heads, -1).permute(2, 0, 3, 1, 4)
    return first, second, third


def join_heads(x: Tensor) -> Tensor:
    """[B, heads, L, d / heads] → [B, L, d]"""
    return x.transpose(1, 2).flatten(2)
