"""Seeds of a slice: any seed, fitted on the events of one type alone, or on the items of one domain."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from anabranch.messages import EVENT_TYPES, EventType
from models.data.event_log import EventLog
from models.data.sequences import Contexts
from models.seeds.seed_model import SeedModel, TopK, Vectors
from models.stages import Done


@dataclass
class TaskSeedModel:
    """A seed that learns from one type of event and sees nothing else of a moment: what people buy after buying."""

    seed: SeedModel
    task: EventType

    @property
    def name(self) -> str:
        """The seed's, and the type: `sequence:purchase`."""
        return f"{self.seed.name}:{self.task}"

    def fit(self, log: EventLog, text_vectors: Vectors, done: Done) -> None:
        """Fit the seed on the events of the type; without any it will teach nothing."""
        self._fitted = _fit(self.seed, log.take(log.type == EVENT_TYPES.index(self.task)), text_vectors, done)

    def predict_top_k(self, contexts: Contexts, k: int) -> TopK:
        """Confidence: the seed's; 0 for a moment without an event of the type.

        Raises `ValueError` for moments without event types.
        """
        seen = contexts.only(contexts.types() == EVENT_TYPES.index(self.task))
        return _teach(self.seed if self._fitted else None, seen, k)


@dataclass
class DomainSeedModel:
    """A seed whose whole catalogue is one domain's items; it learns from, sees and lists no others."""

    seed: SeedModel
    domain: str
    domains: NDArray[np.str_]
    """[C], of every item."""

    @property
    def name(self) -> str:
        """The seed's, and the domain: `sequence:books`."""
        return f"{self.seed.name}:{self.domain}"

    def fit(self, log: EventLog, text_vectors: Vectors, done: Done) -> None:
        """Fit the seed on the events about the domain's items; without any it will teach nothing."""
        if len(self.domains) != len(text_vectors):
            raise ValueError(
                f"`domains` has {len(self.domains)} items, the catalogue {len(text_vectors)}: give it whole"
            )
        self._rows = np.flatnonzero(self.domains == self.domain)  # of the catalogue
        self._number = np.full(len(self.domains), -1, np.int32)
        self._number[self._rows] = np.arange(len(self._rows))
        inside = log.renumbered([log.item_ids[row] for row in self._rows])
        self._fitted = _fit(self.seed, inside, text_vectors[self._rows], done)

    def predict_top_k(self, contexts: Contexts, k: int) -> TopK:
        """Confidence: the seed's; 0 for a moment without an item of the domain."""
        numbers = np.where(contexts.recent >= 0, self._number[contexts.recent], -1)
        seen = replace(contexts, recent=numbers).only(numbers >= 0)
        top_k = _teach(self.seed if self._fitted else None, seen, k)
        items = np.where(top_k.items >= 0, np.append(self._rows, -1)[top_k.items], -1)
        return TopK(items.astype(np.int32), top_k.confidence)


def _fit(seed: SeedModel, log: EventLog, text_vectors: Vectors, done: Done) -> bool:
    """Fit the seed if there is anything to learn from."""
    if len(log):
        seed.fit(log, text_vectors, done)
    else:
        done(1.0)
    return len(log) > 0


def _teach(seed: SeedModel | None, contexts: Contexts, k: int) -> TopK:
    """The seed's lesson, empty where it sees nothing of the moment or there is no seed."""
    seen = contexts.recent[:, 0] >= 0
    if seed is None or not seen.any():
        return TopK(np.full((len(contexts), k), -1, np.int32), np.zeros(len(contexts), np.float32))
    top_k = seed.predict_top_k(contexts, k)
    return TopK(np.where(seen[:, None], top_k.items, -1), np.where(seen, top_k.confidence, 0))
