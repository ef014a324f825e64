"""Domain adapters: items of all domains share one space, and each domain scales and shifts its item vectors.

Perez et al., FiLM: Visual Reasoning with a General Conditioning Layer, AAAI 2018, in place of the bottleneck adapters
of Houlsby et al., Parameter-Efficient Transfer Learning for NLP, ICML 2019. It adds 2 d weights per domain and is the
identity at first.
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
    """Adds a FiLM layer to the item tower, or extends its parent's to more domains. It needs at least two domains.

    An item without a residual has no number by which the layer could look up its domain, so it has no adapter.
    """

    name: str = "domain_adapters"
    _domains: int = field(default=0, repr=False)

    def describe(self) -> dict[str, Any]:
        """Nothing: there are no settings."""
        return {}

    def measured(self) -> dict[str, float]:
        """Number of domains with an adapter."""
        return {"adapted_domains": float(self._domains)}

    @torch.no_grad()
    def prepare(self, encoder: SharedEncoder, data: TrainingData, random: np.random.Generator, done: Done) -> None:
        """Add the layer, with the parent's weights if it has one."""
        item, parent_film = encoder.item, encoder.item.film
        domains = np.zeros_like(data.numbers) if data.domains is None else data.domains
        adaptable = (data.numbers > 0) & (domains > 0)
        if parent_film is None and len(np.unique(domains[adaptable])) < 2:
            self._domains = 0
            return
        self._domains = max(int(domains.max()), 0 if parent_film is None else parent_film.domains)
        film = DomainFilm(encoder.config.items, self._domains, encoder.config.dims)
        if parent_film is not None:
            film.inherit(parent_film.state_dict())
        film.domain_of[torch.from_numpy(data.numbers[adaptable])] = torch.from_numpy(domains[adaptable])
        item.film = film
        done(1.0)
