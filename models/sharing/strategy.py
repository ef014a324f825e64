"""What a sharing strategy is: it makes one encoder out of a course of data and seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from models.encoder import Encoder
from models.seeds.seed import Seed
from models.sequences import Sequences

Done = Callable[[float], None]


@dataclass(frozen=True)
class Course:
    """What an encoder is taught from. Items are rows of the catalogue, C of them."""

    sequences: Sequences
    text_vectors: Tensor  # [C, T]
    numbers: NDArray[np.int64]  # [C], each item's learned residual, 0: none
    seeds: Sequence[Seed]
    fresh_from: int
    """ms; what happened before was taught to the encoder's parent already. 0: nothing was."""


class Strategy(Protocol):
    """Changes the encoder in place."""

    def share(self, encoder: Encoder, course: Course, seed: int, done: Done) -> dict[str, float]:
        """Teach the encoder; what is worth telling of it, by name. `done` is told of every share (0 to 1) done."""
        ...

    def describe(self) -> dict[str, Any]:
        """Name and settings, for the manifest."""
        ...
