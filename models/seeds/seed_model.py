"""What a seed is: a model that learns its own stretch of the data, and teaches with ranked lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from models.data.event_log import EventLog
from models.data.sequences import Contexts
from models.stages import Done

Vectors = NDArray[np.float32]
"""Told of every share (0 to 1) of a fit that is done."""


@dataclass(frozen=True)
class TopK:
    """What a seed would show at B moments."""

    items: NDArray[np.int32]  # [B, k] best first, -1 padded
    confidence: NDArray[np.float32]  # [B], 0: it has nothing to go by, 1: as sure as it can be


class SeedModel(Protocol):
    """A teacher. Anything that ranks can be one: it is asked for lists, not for gradients."""

    @property
    def name(self) -> str:
        """As the manifest names it."""
        ...

    def fit(self, log: EventLog, text_vectors: Vectors, done: Done) -> None:
        """Learn from events whose `item` numbers are rows of the text vectors [C, T]."""
        ...

    def predict_top_k(self, contexts: Contexts, k: int) -> TopK:
        """The k items to show at each of B moments."""
        ...


def top(scores: Vectors, k: int) -> NDArray[np.int32]:
    """The k best columns of scores [B, n], best first; -1 where the score is not above -inf."""
    best = torch.from_numpy(scores).topk(min(k, scores.shape[1]), dim=1)
    return torch.where(best.values.isneginf(), -1, best.indices).to(torch.int32).numpy()
