"""Decayed co-visit counts of one item."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Sequence
from heapq import nlargest

import numpy as np
from numpy.typing import NDArray

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


def top_admitted(
    scores: NDArray[np.float64],
    items: NDArray[np.int32],
    k: int,
    copies: int,
    admitted: tuple[Collection[int], Collection[int] | None],
) -> list[int]:
    """As `top_of_repeated`, for the items with a score in `scores` [C], by item number, where they are admitted.

    `admitted` has the items that are excluded, whose scores are set to 0, and those among which the others must be;
    None: all.
    """
    exclude, among = admitted
    scores[[item for item in exclude if item < len(scores)]] = 0
    if among is not None:
        items = np.array([item for item in among if item < len(scores)], np.int32)
    return top_of_repeated(items, scores[items], k, copies)


def top_of_repeated(items: NDArray[np.int32], scores: NDArray[np.float64], k: int, copies: int) -> list[int]:
    """As `top_items`, for items [n] that occur up to `copies` times, with equal scores; a score of 0 is excluded."""
    if not len(items):
        return []
    enough = min(k * copies, len(items))
    threshold = np.partition(scores, len(scores) - enough)[len(scores) - enough]
    among_top = (scores >= threshold) & (scores > 0)
    chosen, first = np.unique(items[among_top], return_index=True)
    return [int(item) for item in chosen[np.lexsort((chosen, -scores[among_top][first]))[:k]]]
