"""A scale and a shift for every domain, on top of what all domains share.

Perez et al., FiLM: Visual Reasoning with a General Conditioning Layer, AAAI 2018.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class DomainFilm(nn.Module):
    """Item vectors by item number: the number tells the domain. Number 0, and domain 0, pass as they are."""

    domain_of: Tensor  # [items]

    def __init__(self, items: int, domains: int, dims: int) -> None:
        """For `items` numbers, 0 among them, and domains 1 to `domains`; at first all pass as they are."""
        super().__init__()
        self.register_buffer("domain_of", torch.zeros(items, dtype=torch.int64))
        self.scale = nn.Embedding(domains + 1, dims, padding_idx=0)
        self.shift = nn.Embedding(domains + 1, dims, padding_idx=0)
        nn.init.zeros_(self.scale.weight)
        nn.init.zeros_(self.shift.weight)

    @property
    def domains(self) -> int:
        """How many domains there are, 0 not among them."""
        return self.scale.num_embeddings - 1

    def forward(self, vector: Tensor, item_number: Tensor) -> Tensor:
        """Vectors [..., d] of items with numbers [...] → [..., d]."""
        domain = self.domain_of[item_number]  # [...]
        filmed: Tensor = vector * (1 + self.scale(domain)) + self.shift(domain)
        return filmed

    @torch.no_grad()
    def inherit(self, weights: Mapping[str, Tensor]) -> None:
        """Take over the weights of a film of no more items and domains."""
        for name, mine in self.state_dict().items():
            mine[: len(weights[name])] = weights[name]
