"""Domain adapters: items of several domains share one space, and every domain's are shifted a little of their own.

Perez et al., FiLM: Visual Reasoning with a General Conditioning Layer, AAAI 2018, in the place of the adapters of
Houlsby et al., Parameter-Efficient Transfer Learning for NLP, ICML 2019: 2 d weights a domain, nothing at first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from models.networks.encoder import SharedEncoder
from models.networks.film import DomainFilm
from models.sharing.strategy import TrainingData
from models.stages import Done


@dataclass
class DomainAdapters:
    """Gives the item encoder a film by domain, or its parent's more domains. Where there is one domain, none is needed.

    An item that nobody has learned has no number to tell its domain by, and so no adapter.
    """

    name: str = "domain_adapters"
    _domains: int = field(default=0, repr=False)

    def describe(self) -> dict[str, Any]:
        """Nothing can be set."""
        return {}

    def measured(self) -> dict[str, float]:
        """How many domains have an adapter."""
        return {"adapted_domains": float(self._domains)}

    @torch.no_grad()
    def prepare(self, encoder: SharedEncoder, data: TrainingData, random: np.random.Generator, done: Done) -> None:
        """Add the film, or renew it with what a parent's has learned."""
        item, before = encoder.item, encoder.item.film
        domains = np.zeros_like(data.numbers) if data.domains is None else data.domains
        told = (data.numbers > 0) & (domains > 0)
        if before is None and len(np.unique(domains[told])) < 2:
            self._domains = 0
            return
        self._domains = max(int(domains.max()), 0 if before is None else before.domains)
        film = DomainFilm(encoder.config.items, self._domains, encoder.config.dims)
        if before is not None:
            film.inherit(before.state_dict())
        film.domain_of[torch.from_numpy(data.numbers[told])] = torch.from_numpy(domains[told])
        item.film = film
        done(1.0)
