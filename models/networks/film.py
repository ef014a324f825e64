"""FiLM: a scale and a shift of the item vector per domain.

Perez et al., FiLM: Visual Reasoning with a General Conditioning Layer, AAAI 2018.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class DomainFilm(nn.Module):
    """Scales and shifts item vectors by their item's domain. Item number 0 and domain 0 are left unchanged."""

    domain_of: Tensor  # [items], domain of each item number

    def __init__(self, items: int, domains: int, dims: int) -> None:
        """For item numbers 0 to `items` - 1 and domains 1 to `domains`. Initially the identity."""
        super().__init__()
        self.register_buffer("domain_of", torch.zeros(items, dtype=torch.int64))
        self.scale = nn.Embedding(domains + 1, dims, padding_idx=0)
        self.shift = nn.Embedding(domains + 1, dims, padding_idx=0)
        nn.init.zeros_(self.scale.weight)
        nn.init.zeros_(self.shift.weight)

    @property
    def domains(self) -> int:
        """Number of domains, without domain 0."""
        return self.scale.num_embeddings - 1

    def forward(self, vector: Tensor, item_number: Tensor) -> Tensor:
        """Vectors [..., d] of items with numbers [...] → [..., d]."""
        domain = self.domain_of[item_number]  # [...]
        modulated: Tensor = vector * (1 + self.scale(domain)) + self.shift(domain)
        return modulated

    @torch.no_grad()
    def inherit(self, weights: Mapping[str, Tensor]) -> None:
        """Copy the weights of a layer with at most as many items and domains."""
        for name, own in self.state_dict().items():
            own[: len(weights[name])] = weights[name]
