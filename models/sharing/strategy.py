"""The interface of a sharing strategy: it prepares the encoder before training and may add an auxiliary loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anabranch.ranking.inference.user_encoder import encoder_types
from models.data.event_log import NONE
from models.data.sequences import Positions, Sequences, SequenceWindows
from models.networks.encoder import SharedEncoder
from models.networks.sampled_softmax import Negatives, Targets
from models.sharing.teachers import Teachers
from models.stages import Done


@dataclass(frozen=True)
class TrainingData:
    """What an encoder is trained on. Item numbers in the sequences are rows of the catalogue of C items.

    Searches in the sequences are inputs of the encoder, as in serving; they are never targets.
    """

    sequences: Sequences
    text_vectors: Tensor  # [C, T]
    numbers: NDArray[np.int64]  # [C], row of each item's learned residual; 0 if it has none
    teachers: Teachers | None = None
    """The seed models; None: nobody teaches."""
    new_since_ms: int = 0
    """The encoder has already been trained on the events before this time. 0: it has not been trained at all."""
    child: bool = False
    """Whether a parent release was trained on those events. Otherwise the encoder is new, and is fine-tuned on the
    window that was held out for the list ranker."""
    domains: NDArray[np.int64] | None = None
    """[C], domain of each item from 1 on, 0 if it has none. None: no item has a domain."""
    targets: NDArray[np.bool_] | None = None
    """[N], rows of the sequences that may be prediction targets. None: all that have an item."""
    query_vectors: Tensor | None = None
    """[Q, T], text vectors of the searches, by the sequences' query numbers. None: there are no searches."""


class CatalogueVectors:
    """Vectors of items and searches as the encoder computes them at the moment of the call.

    A search has the vector of an item with its text and without a residual, as in serving.
    """

    def __init__(self, encoder: SharedEncoder, data: TrainingData) -> None:
        self._encoder = encoder
        self.items = len(data.numbers)
        """C; the searches [Q] have the rows after the items'."""
        queries = data.text_vectors[:0] if data.query_vectors is None else data.query_vectors
        self._numbers = torch.from_numpy(np.concatenate([data.numbers, np.zeros(len(queries), np.int64)]))
        with torch.no_grad():
            self._white = encoder.item.white(torch.cat([data.text_vectors, queries]))  # [C + Q, P]

    def __len__(self) -> int:
        return len(self._white)

    def at(self, rows: NDArray[np.integer]) -> Tensor:
        """Vectors [..., d] of the items at catalogue rows [...], or of searches at the rows after them."""
        index = torch.from_numpy(rows.astype(np.int64))
        return self._encoder.item.embed(self._white[index], self._numbers[index])

    def targets(self, rows: NDArray[np.integer]) -> Targets:
        """The items at catalogue rows [m] as targets."""
        return Targets(rows, self.at(rows))

    def inputs(self, sequences: Sequences, rows: Positions) -> tuple[Tensor, Tensor, Tensor]:
        """See `encoder_inputs`."""
        return encoder_inputs(sequences, rows, self.items, self.at)


def encoder_inputs(
    sequences: Sequences, rows: Positions, items: int, vectors: Callable[[Positions], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Encoder inputs for the events at rows [B, L] of the sequences: vectors [B, L, d] of what the events are about,
    event types [B, L] as encoders read them, and seconds since the user's previous event [B, L].

    `vectors` gives the vectors of a catalogue of C = `items` items, and of searches at C plus their query numbers. The
    input of a search is its text, also if it names an item.
    """
    item, query = sequences.item[rows].astype(np.int64), sequences.query[rows].astype(np.int64)
    return (
        vectors(np.where(query == NONE, item, items + query)),
        torch.from_numpy(encoder_types(sequences.type[rows]).astype(np.int64)),
        torch.from_numpy(sequences.seconds_since[rows]),
    )


@dataclass(frozen=True)
class TrainingStep:
    """One optimiser step: B windows of up to L events, and what the encoder computed for them."""

    windows: SequenceWindows
    users: Tensor  # [B, L, d], user vector after each event
    items: CatalogueVectors
    negatives: Negatives  # n catalogue rows
    mask: NDArray[np.bool_]  # [B, L], prediction points that have a target
    target: Positions  # [m], rows of the sequences, in the order of the mask
    log_loss: Tensor  # scalar, loss of predicting the targets


class AuxiliaryLoss(Protocol):
    """A term of the loss. If it is a `torch.nn.Module`, its parameters are trained together with the encoder's."""

    def __call__(self, step: TrainingStep) -> Tensor:
        """A scalar that already includes the term's weight."""
        ...


class Strategy(Protocol):
    """One way to share what seed models, texts, event types, domains or a parent know."""

    @property
    def name(self) -> str:
        """Name in the manifest, and of its loss."""
        ...

    def prepare(
        self, encoder: SharedEncoder, data: TrainingData, random: np.random.Generator, done: Done
    ) -> AuxiliaryLoss | None:
        """Change the encoder in place before it is trained, and return a term to add to its loss, or None.

        `done(share)` is called with each share (0 to 1) of the work as it is completed.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Settings, under their keys in the manifest."""
        ...

    def measured(self) -> dict[str, float]:
        """What the last `prepare` measured, under its keys in the manifest."""
        ...
