"""Items whose vectors are equal, for they read alike: an index needs one of each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.jit import compiled
from anabranch.ranking.types import Positions, Rows


class VectorGroups(NamedTuple):
    """Items by the vector they share: those of position p are `rows[first[p] : first[p + 1]]`."""

    first: Positions
    """[P + 1]"""
    rows: Rows
    """[n] -1 where the vector is no item's any more."""

    @classmethod
    def singletons(cls, rows: Rows) -> VectorGroups:
        """Every item by itself."""
        return cls(np.arange(len(rows) + 1), rows)

    def and_then(self, more: VectorGroups) -> VectorGroups:
        """The positions of both, one after the other."""
        first = np.concatenate([self.first, self.first[-1] + more.first[1:]])
        return VectorGroups(first, np.concatenate([self.rows, more.rows]))


class VectorDeduplicator:
    """Gives every vector that is new a position, 0, 1, 2 …, and each item the position of its vector.

    By Python's hash of the vector's bytes, of 64 bits: two of a million vectors share one with a probability of 3e-8.
    """

    def __init__(self) -> None:
        self._positions: dict[int, int] = {}
        self._at: list[int] = []

    def add(self, vectors: NDArray[np.float32]) -> Positions:
        """Which of the next items' vectors [n, d] are new [m], in the order of their positions."""
        data, width, new = vectors.tobytes(), vectors.itemsize * vectors.shape[1], list[int]()
        for n, start in enumerate(range(0, len(data), width)):
            key = hash(data[start : start + width])
            position = self._positions.get(key)
            if position is None:
                position = self._positions[key] = len(self._positions)
                new.append(n)
            self._at.append(position)
        return np.array(new, np.int64)

    def of(self, rows: Rows) -> VectorGroups:
        """Of the items [n] that were added, in that order."""
        at = np.array(self._at, np.int64)
        counts = np.bincount(at, minlength=len(self._positions))
        return VectorGroups(np.append(0, np.cumsum(counts)), rows[np.argsort(at, kind="stable")])


@compiled
def tell(
    at: Positions,  # [B, w] positions, best first; -1: none
    products: NDArray[np.float32],  # [B, w]
    first: Positions,  # [P + 1]
    rows: Rows,  # [n]
    alive: NDArray[np.bool_],  # [N] items that may be found
    found: Rows,  # [B, k] to be filled from the left, as are the scores; -1 all
    scores: NDArray[np.float32],  # [B, k]
) -> None:
    """The first k items that are alive of each query's positions."""
    for b in range(len(at)):
        n = 0
        for place in range(at.shape[1]):
            position = at[b, place]
            if position < 0 or n == found.shape[1]:
                break
            for item in rows[first[position] : first[position + 1]]:
                if n < found.shape[1] and item >= 0 and alive[item]:
                    found[b, n], scores[b, n] = item, products[b, place]
                    n += 1
