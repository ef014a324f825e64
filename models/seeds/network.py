"""The networks of the sequence seed models: their interface and their training settings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn


class IdNetwork(nn.Module, ABC):
    """A causal network on item ids. The score of an item is the inner product of user and item vector."""

    item: nn.Embedding

    @abstractmethod
    def forward(self, items: Tensor) -> Tensor:
        """Items [B, L] int64, oldest first → user vectors [B, L, d], each from the items up to it."""


@dataclass(frozen=True)
class NetworkConfig(ABC):
    """Size and training of the network."""

    dims: int = 64
    window: int = 64
    """Newest items of a prediction point that the network reads."""
    epochs: int = 4
    events_per_step: int = 2048
    negatives: int = 512
    mean_target_gap: float = 8.0
    """Mean number of events from a prediction point to its target; 1: always the next event."""
    learning_rate: float = 3e-3

    @abstractmethod
    def network(self, items: int) -> IdNetwork:
        """An untrained network for this many items."""
