"""Items with equal vectors: an index holds each distinct vector once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from anabranch.ranking.jit import compiled
from anabranch.ranking.types import Mask, Positions, Rows, Vectors


class VectorGroups(NamedTuple):
    """Items grouped by vector: the items of the vector at position p are `rows[first[p] : first[p + 1]]`."""

    first: Positions
    """[P + 1]"""
    rows: Rows
    """[n] -1 for an item that no longer has this vector."""

    @classmethod
    def singletons(cls, rows: Rows) -> VectorGroups:
        """One group per item."""
        return cls(np.arange(len(rows) + 1), rows)

    def followed_by(self, more: VectorGroups) -> VectorGroups:
        """These groups, then those of `more` at the positions after."""
        first = np.concatenate([self.first, self.first[-1] + more.first[1:]])
        return VectorGroups(first, np.concatenate([self.rows, more.rows]))


class VectorDeduplicator:
    """Numbers distinct vectors 0, 1, 2 … in the order of their first occurrence, and maps each item to its vector.

    Vectors are compared by Python's 64-bit hash of their bytes: two of a million vectors collide with a probability of
    3e-8.
    """

    def __init__(self) -> None:
        self._position_by_hash: dict[int, int] = {}
        self._positions: list[int] = []
        """Of the vector of each item added."""

    def add(self, vectors: Vectors) -> Positions:
        """Add the next items' vectors [n, d]; the indices [m] of those not seen before, in ascending order."""
        data, width, new = vectors.tobytes(), vectors.itemsize * vectors.shape[1], list[int]()
        for n, start in enumerate(range(0, len(data), width)):
            key = hash(data[start : start + width])
            position = self._position_by_hash.get(key)
            if position is None:
                position = self._position_by_hash[key] = len(self._position_by_hash)
                new.append(n)
            self._positions.append(position)
        return np.array(new, np.int64)

    def groups(self, rows: Rows) -> VectorGroups:
        """The groups of the items [n] that were added, given in that order."""
        positions = np.array(self._positions, np.int64)
        counts = np.bincount(positions, minlength=len(self._position_by_hash))
        return VectorGroups(np.append(0, np.cumsum(counts)), rows[np.argsort(positions, kind="stable")])


class NearestVectors(NamedTuple):
    """What FAISS returns for B queries, best first."""

    positions: Positions
    """[B, w] -1: none"""
    products: Vectors
    """[B, w]"""


@compiled
def expand_groups(
    nearest: NearestVectors,
    groups: VectorGroups,
    valid: Mask,  # [N]
    rows: Rows,  # [B, k] output, -1 on entry; filled from the left, as are the scores
    scores: Vectors,  # [B, k] output
) -> None:
    """The first k valid items of each query's nearest vectors."""
    positions, k = nearest.positions, rows.shape[1]
    for b in range(len(positions)):
        n = 0
        for w in range(positions.shape[1]):
            position = positions[b, w]
            if position < 0 or n == k:
                break
            for item in groups.rows[groups.first[position] : groups.first[position + 1]]:
                if n < k and item >= 0 and valid[item]:
                    rows[b, n], scores[b, n] = item, nearest.products[b, w]
                    n += 1
