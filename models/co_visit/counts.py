"""Decayed co-visit counts of one item."""

from __future__ import annotations

from array import array
from heapq import nlargest

ItemScores = dict[int, float]
"""Item number → score."""


class NeighbourCounts:
    """One item's co-visit count per neighbour, in C arrays that numpy can read without copying."""

    __slots__ = ("_index", "counts", "items", "total")

    def __init__(self) -> None:
        self._index: dict[int, int] = {}
        """Neighbour → its index in `items` and `counts`."""
        self.items = array("i")
        self.counts = array("d")
        self.total = 0.0
        """Sum over all neighbours ever counted, pruned ones included."""

    def __len__(self) -> int:
        return len(self.items)

    def add(self, item: int, count: float) -> None:
        """Count a co-visit with `item`."""
        self.total += count
        index = self._index.get(item)
        if index is None:
            self._index[item] = len(self.items)
            self.items.append(item)
            self.counts.append(count)
        else:
            self.counts[index] += count

    def scale(self, factor: float) -> None:
        """Multiply all counts, and forget neighbours whose count becomes 0."""
        self.total *= factor
        scaled = zip(self.items, (count * factor for count in self.counts), strict=True)
        self._replace({item: count for item, count in scaled if count})

    def prune(self, n: int) -> None:
        """Remove all but the n strongest neighbours."""
        counts = dict(zip(self.items, self.counts, strict=True))
        self._replace({item: counts[item] for item in top_items(counts, n)})

    def _replace(self, counts: ItemScores) -> None:
        self._index = {item: index for index, item in enumerate(counts)}
        self.items = array("i", counts)
        self.counts = array("d", counts.values())


def top_items(scores: ItemScores, k: int) -> list[int]:
    """The k items with the highest scores, best first; of equal scores the lower item number first."""
    return [-item for _, item in nlargest(k, ((score, -item) for item, score in scores.items()))]
