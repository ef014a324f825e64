"""Items whose vectors are equal, for they read alike: an index needs one of each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.compiled import compiled
from anabranch.ranking.item_ids import Rows

Positions = NDArray[np.int64]

MULTIPLIER = 0x9E3779B97F4A7C15
"""2^64 over the golden ratio (Knuth, The Art of Computer Programming, 6.4)."""


class Alike(NamedTuple):
    """Items by the vector they share: those of position p are `rows[first[p] : first[p + 1]]`."""

    first: Positions
    """[P + 1]"""
    rows: Rows
    """[n] -1 where the vector is no item's any more."""

    @classmethod
    def each(cls, rows: Rows) -> Alike:
        """Every item by itself."""
        return cls(np.arange(len(rows) + 1), rows)

    @classmethod
    def of(cls, vectors: NDArray[np.float32], rows: Rows) -> Alike:
        """Items `rows` [n] by their vectors among `vectors` [N, d], by a hash of 64 bits: see `stable_hash`."""
        keys = np.empty(len(rows), np.uint64)
        _hash(vectors.view(np.uint32), rows, keys)
        together = np.argsort(keys, kind="stable")
        begins = np.flatnonzero(np.diff(keys[together], prepend=~keys[together[:1]]))
        return cls(np.append(begins, len(rows)), rows[together])

    @property
    def leaders(self) -> Rows:
        """An item [P] of each position."""
        return self.rows[self.first[:-1]]

    def and_then(self, more: Alike) -> Alike:
        """The positions of both, one after the other."""
        first = np.concatenate([self.first, self.first[-1] + more.first[1:]])
        return Alike(first, np.concatenate([self.rows, more.rows]))


@compiled
def _hash(bits: NDArray[np.uint32], rows: Rows, keys: NDArray[np.uint64]) -> None:
    for n in range(len(rows)):
        key = np.uint64(0)
        for d in range(bits.shape[1]):
            key = (key ^ np.uint64(bits[rows[n], d])) * np.uint64(MULTIPLIER)
            key ^= key >> np.uint64(32)
        keys[n] = key


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
