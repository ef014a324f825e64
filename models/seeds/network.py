"""What a sequence seed trains: a network over windows of item ids, and how it is trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn


class IdNetwork(nn.Module, ABC):
    """A causal network on ids alone. The score of an item is the inner product of user and item vector."""

    item: nn.Embedding

    @abstractmethod
    def forward(self, items: Tensor) -> Tensor:
        """Items [B, L] int64, oldest first → user vectors [B, L, d] after each; none knows what comes later."""


@dataclass(frozen=True)
class NetworkConfig(ABC):
    """Size of the network, and how it is trained."""

    dims: int = 64
    window: int = 64
    """Newest items of a moment that the network reads."""
    epochs: int = 4
    events_per_step: int = 2048
    negatives: int = 512
    mean_target_gap: float = 8.0
    """Mean number of events from a moment to the target drawn for it; 1: always the next."""
    learning_rate: float = 3e-3

    @abstractmethod
    def network(self, items: int) -> IdNetwork:
        """A new network that knows this many items."""
