"""A sample of the users who were ranked lately: what an approximate index is tuned to, online and offline."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.types import Slots, Vectors

SAMPLE_SIZE = 64
"""User vectors in one estimate of recall. Each costs an exact search, which compares it with every item."""


class QuerySample:
    """Vectors of up to `SAMPLE_SIZE` different users."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)
        self._vectors: dict[int, Vectors] = {}
        """By slot, those of the users ranked most recently last."""

    def add(self, vectors: NDArray[np.float16], slots: Slots) -> None:
        """Sample the users just ranked, at distinct `slots` [U] of user vectors [n, d]."""
        slots = self._random.choice(slots, min(SAMPLE_SIZE, len(slots)), replace=False)
        for slot, vector in zip(slots.tolist(), vectors[slots].astype(np.float32), strict=True):
            self._vectors.pop(slot, None)
            self._vectors[slot] = vector
        for slot in list(self._vectors)[:-SAMPLE_SIZE]:
            del self._vectors[slot]

    def clear(self) -> None:
        """Forget all users."""
        self._vectors.clear()

    @property
    def is_full(self) -> bool:
        """Whether there are enough users to tune an index to."""
        return len(self._vectors) == SAMPLE_SIZE

    @property
    def queries(self) -> Vectors:
        """Their vectors [n, d]."""
        return np.stack(list(self._vectors.values()))
