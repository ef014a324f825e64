"""Decayed co-visit counts of one item."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from heapq import nlargest

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.jit import compiled

ItemScores = dict[int, float]
"""Item number → score."""


class NeighbourCounts:
    """One item's co-visit count per neighbour, in C arrays that numpy can read without copying.

    The users of a neighbour are 64 bits, of which each user sets one (linear counting; Whang, Vander-Zanden and Taylor,
    1990). Two users may share a bit and one never sets two, so that there are at least as many users as bits.
    """

    __slots__ = ("_index", "counts", "items", "total", "users")

    def __init__(self) -> None:
        self._index: dict[int, int] = {}
        """Neighbour → its index in `items` and `counts`."""
        self.items = array("i")
        self.counts = array("d")
        self.users = array("Q")
        """The bits of each neighbour's users."""
        self.total = 0.0
        """Sum over all neighbours ever counted, pruned ones included."""

    def __len__(self) -> int:
        return len(self.items)

    def add(self, item: int, count: float, user: int) -> None:
        """Count a co-visit of a user with `item`."""
        self.total += count
        index = self._index.get(item)
        if index is None:
            self._index[item] = len(self.items)
            self.items.append(item)
            self.counts.append(count)
            self.users.append(1 << (user & 63))
        else:
            self.counts[index] += count
            self.users[index] |= 1 << (user & 63)

    def shared_counts(self, min_users: int) -> NDArray[np.float64]:
        """The count of each neighbour, 0 where fewer than `min_users` users made it."""
        has_users = np.bitwise_count(np.frombuffer(self.users, np.uint64)) >= min_users
        return np.where(has_users, np.frombuffer(self.counts, np.float64), 0)

    def scale(self, factor: float) -> None:
        """Multiply all counts, and forget neighbours whose count becomes 0."""
        self.total *= factor
        self.counts = array("d", (count * factor for count in self.counts))
        self._keep([index for index, count in enumerate(self.counts) if count])

    def prune(self, n: int) -> None:
        """Remove all but the n strongest neighbours."""
        counts = dict(zip(self.items, self.counts, strict=True))
        self._keep([self._index[item] for item in top_items(counts, n)])

    def _keep(self, indexes: Sequence[int]) -> None:
        self.items = array("i", (self.items[index] for index in indexes))
        self.counts = array("d", (self.counts[index] for index in indexes))
        self.users = array("Q", (self.users[index] for index in indexes))
        self._index = {item: index for index, item in enumerate(self.items)}


def top_items(scores: ItemScores, k: int) -> list[int]:
    """The k items with the highest scores, best first; of equal scores the lower item number first."""
    return [-item for _, item in nlargest(k, ((score, -item) for item, score in scores.items()))]


@dataclass(frozen=True)
class ScoredItems:
    """Items of one user with their scores, from which slates are taken."""

    items: NDArray[np.int32]  # [n] distinct
    scores: NDArray[np.float64]  # [n]; an item with the score 0 is on no slate

    @classmethod
    def summed(cls, items: NDArray[np.int32], shares: NDArray[np.float64], scratch: NDArray[np.float64]) -> ScoredItems:
        """Each item's sum of shares, for items [n] that may be repeated. `scratch` [C] is 0 before and after."""
        distinct = _sum_by_item(items, shares, scratch)
        scores = scratch[distinct]
        scratch[distinct] = 0
        return cls(distinct, scores)

    def top(self, k: int, exclude: Collection[int] = (), among: Collection[int] | None = None) -> list[int]:
        """The k items with the highest scores that are not excluded, of all or `among` some, best first; of equal ones
        the lower item number first."""
        eligible = (self.scores > 0) & ~_is_in(self.items, exclude)
        if among is not None:
            eligible &= _is_in(self.items, among)
        items, scores = self.items[eligible], self.scores[eligible]
        if len(items) > k:
            is_high = scores >= np.partition(scores, len(scores) - k)[len(scores) - k]
            items, scores = items[is_high], scores[is_high]
        top: list[int] = items[np.lexsort((items, -scores))[:k]].tolist()
        return top


@compiled
def _sum_by_item(
    items: NDArray[np.int32], shares: NDArray[np.float64], scratch: NDArray[np.float64]
) -> NDArray[np.int32]:
    """Add the shares [n] to the items' entries of `scratch`, and return the items whose entry is not 0, each once."""
    distinct, n = np.empty(len(items), np.int32), 0
    for index in range(len(items)):
        if shares[index] == 0:
            continue
        if scratch[items[index]] == 0:
            distinct[n] = items[index]
            n += 1
        scratch[items[index]] += shares[index]
    return distinct[:n]


def _is_in(items: NDArray[np.int32], chosen: Collection[int]) -> NDArray[np.bool_]:
    if not len(items) or not chosen:
        return np.zeros(len(items), np.bool_)
    return np.isin(items, np.fromiter(chosen, np.int32, len(chosen)), kind="table")
