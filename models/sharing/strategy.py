"""What a sharing strategy is: it prepares an encoder for its training, and may add a term to the loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.data.sequences import Positions, Sequences, SequenceWindows
from models.networks.encoder import SharedEncoder
from models.seeds.seed_model import SeedModel
from models.stages import Done


@dataclass(frozen=True)
class TrainingData:
    """What an encoder is taught from. Items are rows of the catalogue, C of them."""

    sequences: Sequences
    text_vectors: Tensor  # [C, T]
    numbers: NDArray[np.int64]  # [C], each item's learned residual, 0: none
    seeds: Sequence[SeedModel] = ()
    new_since_ms: int = 0
    """ms; what happened before was taught to the encoder already. 0: nothing was."""
    child: bool = False
    """Whether a parent taught it that. Else the encoder is new, and catches up with the days that taught its order."""
    domains: NDArray[np.int64] | None = None
    """[C], each item's domain from 1 on, 0: none. None: no item has one."""
    targets: NDArray[np.bool_] | None = None
    """[N], rows of the sequences that may be predicted. None: all."""


class ItemVectors:
    """Vectors of the catalogue's items, as the encoder makes them now."""

    def __init__(self, encoder: SharedEncoder, data: TrainingData) -> None:
        self._encoder = encoder
        self._numbers = torch.from_numpy(data.numbers)
        with torch.no_grad():
            self._white = encoder.item.white(data.text_vectors)  # [C, P]

    def of(self, rows: NDArray[np.integer]) -> Tensor:
        """Item vectors [..., d] of catalogue rows [...]."""
        at = torch.from_numpy(rows.astype(np.int64))
        return self._encoder.item.embed(self._white[at], self._numbers[at])

    def of_text(self, rows: NDArray[np.integer]) -> Tensor:
        """What the vectors would be had nobody learned the items: the text alone."""
        at = torch.from_numpy(rows.astype(np.int64))
        return self._encoder.item.embed(self._white[at], torch.zeros_like(at))


@dataclass(frozen=True)
class TrainingStep:
    """One step of the optimiser: windows of the course, and what the encoder makes of them."""

    windows: SequenceWindows
    users: Tensor  # [B, L, d] after each event
    items: ItemVectors
    negative_items: Positions  # [n], rows of the catalogue
    negatives: Tensor  # [n, d]
    negatives_log_q: Tensor  # [n], of each to be drawn
    where: NDArray[np.bool_]  # [B, L], the places that have a target
    target: Positions  # [m], rows of the sequences, in the mask's order
    on_the_log: Tensor  # scalar, the loss of predicting the targets


class AuxiliaryLoss(Protocol):
    """A part of the loss. One that is a `torch.nn.Module` has its parameters trained beside the encoder's."""

    def __call__(self, step: TrainingStep) -> Tensor:
        """A scalar, weighted already."""
        ...


class Strategy(Protocol):
    """One way of sharing what seeds, texts, tasks, domains or a parent know."""

    @property
    def name(self) -> str:
        """As the manifest names it, and the term of its loss."""
        ...

    def prepare(
        self, encoder: SharedEncoder, data: TrainingData, random: np.random.Generator, done: Done
    ) -> AuxiliaryLoss | None:
        """Change the encoder in place before it is trained, and give what is to be added to its loss.

        `done` is told of every share (0 to 1) done.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Settings, for the manifest."""
        ...

    def measured(self) -> dict[str, float]:
        """What `prepare` found that is worth telling, by name."""
        ...
