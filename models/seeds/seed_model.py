"""The interface of a seed model: it is fitted to the log, and predicts ranked lists."""

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


@dataclass(frozen=True)
class TopK:
    """Predicted lists at B prediction points."""

    items: NDArray[np.int32]  # [B, k], best first, padded with -1
    confidence: NDArray[np.float32]  # [B], 0 (nothing to go by) to 1


class SeedModel(Protocol):
    """A teacher of the shared encoder. Any ranker can be one, because only lists are needed, not gradients."""

    @property
    def name(self) -> str:
        """Name in the manifest."""
        ...

    def fit(self, log: EventLog, text_vectors: Vectors, done: Done) -> None:
        """Fit to events whose `item` numbers are rows of the text vectors [C, T].

        `done(share)` is called with each share (0 to 1) of the work as it is completed.
        """
        ...

    def predict_top_k(self, contexts: Contexts, k: int) -> TopK:
        """The k best items at each of B prediction points."""
        ...


def top_k_items(scores: Vectors, k: int) -> NDArray[np.int32]:
    """The k highest columns of scores [B, n], best first; -1 instead of a column whose score is -inf."""
    best = torch.from_numpy(scores).topk(min(k, scores.shape[1]), dim=1)
    return torch.where(best.values.isneginf(), -1, best.indices).to(torch.int32).numpy()
