"""A gated recurrent unit on item ids: it uses no texts, and its memory is not linear as the shared encoder's is."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from models.seeds.network import IdNetwork, NetworkConfig


@dataclass(frozen=True)
class GruConfig(NetworkConfig):
    """A `Gru` with `dims` units."""

    def network(self, items: int) -> IdNetwork:
        """See `NetworkConfig`."""
        return Gru(items, self)


class Gru(IdNetwork):
    """Hidasi et al., Session-based Recommendations with Recurrent Neural Networks, ICLR 2016."""

    def __init__(self, items: int, config: GruConfig) -> None:
        super().__init__()
        self.item = nn.Embedding(items, config.dims)
        self.unit = nn.GRU(config.dims, config.dims, batch_first=True)
        self.norm = nn.LayerNorm(config.dims)
        nn.init.normal_(self.item.weight, std=config.dims**-0.5)

    def forward(self, items: Tensor) -> Tensor:
        """See `IdNetwork`."""
        x = self.item(items)  # [B, L, d]
        user: Tensor = self.norm(x + self.unit(x)[0])
        return user
