"""A gated recurrent unit on ids, free of text and of the encoder's linear memory."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from models.seeds.network import IdNetwork, NetworkConfig


@dataclass(frozen=True)
class GruConfig(NetworkConfig):
    """A `Gru` of `dims` units."""

    def network(self, items: int) -> IdNetwork:
        """A new network that knows this many items."""
        return Gru(items, self)


class Gru(IdNetwork):
    """Hidasi et al., Session-based Recommendations with Recurrent Neural Networks, ICLR 2016, on ids alone."""

    def __init__(self, items: int, config: GruConfig) -> None:
        super().__init__()
        self.item = nn.Embedding(items, config.dims)
        self.unit = nn.GRU(config.dims, config.dims, batch_first=True)
        self.norm = nn.LayerNorm(config.dims)
        nn.init.normal_(self.item.weight, std=config.dims**-0.5)

    def forward(self, items: Tensor) -> Tensor:
        """Items [B, L] int64 → user vectors [B, L, d] after each."""
        x = self.item(items)  # [B, L, d]
        user: Tensor = self.norm(x + self.unit(x)[0])
        return user
