"""Seed models of a slice: any seed model, fitted to the events of one type or to the items of one domain."""

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
    """A seed model that sees events of one type only, both in fitting and in predicting."""

    seed_model: SeedModel
    task: EventType

    @property
    def name(self) -> str:
        """The seed model's name and the event type, such as `sequence:purchase`."""
        return f"{self.seed_model.name}:{self.task}"

    def fit(self, log: EventLog, text_vectors: Vectors, done: Done) -> None:
        """Fit to the events of the type. Without any, predictions are empty."""
        self._fitted = _fit(self.seed_model, log.take(log.type == EVENT_TYPES.index(self.task)), text_vectors, done)

    def predict_top_k(self, contexts: Contexts, k: int) -> TopK:
        """See `SeedModel`. Confidence: the seed model's; 0 if no recent event has the type.

        Raises `ValueError` for contexts without event types.
        """
        of_task = contexts.only(contexts.types() == EVENT_TYPES.index(self.task))
        return _predict(self.seed_model if self._fitted else None, of_task, k)


@dataclass
class DomainSeedModel:
    """A seed model whose catalogue is one domain's items: it is fitted to them, sees them and predicts them only."""

    seed_model: SeedModel
    domain: str
    domains: NDArray[np.str_]
    """[C], domain of every item."""

    @property
    def name(self) -> str:
        """The seed model's name and the domain, such as `sequence:books`."""
        return f"{self.seed_model.name}:{self.domain}"

    def fit(self, log: EventLog, text_vectors: Vectors, done: Done) -> None:
        """Fit to the events on the domain's items. Without any, predictions are empty."""
        if len(self.domains) != len(text_vectors):
            raise ValueError(
                f"`domains` has {len(self.domains)} items, the catalogue {len(text_vectors)}: it needs one per item"
            )
        self._rows = np.flatnonzero(self.domains == self.domain)  # of the catalogue
        self._number = np.full(len(self.domains), -1, np.int32)
        self._number[self._rows] = np.arange(len(self._rows))
        of_domain = log.renumbered([log.item_ids[row] for row in self._rows])
        self._fitted = _fit(self.seed_model, of_domain, text_vectors[self._rows], done)

    def predict_top_k(self, contexts: Contexts, k: int) -> TopK:
        """See `SeedModel`. Confidence: the seed model's; 0 if no recent item is of the domain."""
        numbers = np.where(contexts.recent >= 0, self._number[contexts.recent], -1)
        of_domain = replace(contexts, recent=numbers).only(numbers >= 0)
        top_k = _predict(self.seed_model if self._fitted else None, of_domain, k)
        items = np.where(top_k.items >= 0, np.append(self._rows, -1)[top_k.items], -1)
        return TopK(items.astype(np.int32), top_k.confidence)


def _fit(seed_model: SeedModel, log: EventLog, text_vectors: Vectors, done: Done) -> bool:
    """Fit the seed model unless the log is empty; returns whether it is fitted."""
    if len(log):
        seed_model.fit(log, text_vectors, done)
    else:
        done(1.0)
    return len(log) > 0


def _predict(seed_model: SeedModel | None, contexts: Contexts, k: int) -> TopK:
    """The seed model's predictions; empty where it has no recent event, or without a seed model."""
    has_event = contexts.recent[:, 0] >= 0
    if seed_model is None or not has_event.any():
        return TopK(np.full((len(contexts), k), -1, np.int32), np.zeros(len(contexts), np.float32))
    top_k = seed_model.predict_top_k(contexts, k)
    return TopK(np.where(has_event[:, None], top_k.items, -1), np.where(has_event, top_k.confidence, 0))
