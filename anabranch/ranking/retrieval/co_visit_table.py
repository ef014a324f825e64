"""The co-visit table of the ranker: neighbours, popularity, first event and repeat rate of every item."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anabranch.messages import UNKNOWN_REPEAT_RATE
from anabranch.ranking.types import Hashes, Rows

FLOOR = 1e-6
"""Added to a weight before its logarithm, so that 0 has one too; and the smallest divisor."""
UNPOPULAR = np.float32(np.log(FLOOR))
"""Logarithm of the popularity of an item without events, and of one of too few users to be published."""


class CoVisitColumns(NamedTuple):
    """Columns by item row; nothing is known of an item beyond their end."""

    rows: Rows
    """[n, W] neighbours, strongest first, -1 padded."""
    weights: NDArray[np.float32]
    """[n, W]"""
    log_popularity: NDArray[np.float32]
    """[n] natural logarithm of the item's share of all decayed counts, plus `FLOOR`."""
    first_seen: NDArray[np.int64]
    """[n] ms of the first event about the item, -1 if unknown."""
    repeat_rate: NDArray[np.float32]
    """[n] share of the item's users who had a second event about it, `UNKNOWN_REPEAT_RATE` if unknown."""


class MostPopular(NamedTuple):
    """The most popular items of a table."""

    items: Rows
    """At most k, best first; fewer if fewer have a popularity."""
    k: int
    """0: a row was set since that may be among them."""
    least: np.float32
    """Logarithm of the popularity of the k-th one. Only a row that has as much, or had it before, can change them."""


class CoVisitRows:
    """Growable columns by item row, filled from the `neighbours` topic or the co-visit seed model."""

    def __init__(self, max_width: int | None = None) -> None:
        """Neighbours beyond `max_width` are dropped. None: the columns are as wide as the longest row so far."""
        self._max_width = max_width
        self.columns = _unknown(1024, max_width or 1)
        self._most_popular = MostPopular(np.empty(0, np.int32), 0, UNPOPULAR)

    @property
    def width(self) -> int:
        """Neighbours for which there is room in each row."""
        width: int = self.columns.rows.shape[1]
        return width

    def set(
        self,
        row: int,
        rows: Rows,
        weights: NDArray[np.float32],
        popularity: float,
        first_seen: int,
        repeat_rate: float,
    ) -> None:
        """Set the columns of an item.

        `rows` [n] and `weights` [n] are its neighbours, strongest first; `popularity` is its share of all decayed
        counts, `first_seen` in ms. One parameter per column.
        """
        self._reserve(row + 1)
        if self._max_width is None and len(rows) > self.width:
            self._widen(len(rows))
        n = min(len(rows), self.width)
        columns = self.columns
        columns.rows[row] = -1
        columns.weights[row] = 0
        columns.rows[row, :n] = rows[:n]
        columns.weights[row, :n] = weights[:n]
        log_popularity = np.float32(np.log(popularity + FLOOR))
        if max(log_popularity, columns.log_popularity[row]) >= self._most_popular.least:
            self._most_popular = self._most_popular._replace(k=0)
        columns.log_popularity[row] = log_popularity
        columns.first_seen[row] = first_seen
        columns.repeat_rate[row] = repeat_rate

    def remove(self, row: int) -> None:
        """Reset the columns of an item to unknown."""
        if row < len(self.columns.rows):
            self.set(row, np.empty(0, np.int32), np.empty(0, np.float32), 0.0, -1, UNKNOWN_REPEAT_RATE)

    def most_popular(self, k: int, hashes: Hashes) -> Rows:
        """The k most popular items, best first; fewer if fewer have a popularity. Of equally popular ones, those whose
        ids have the smaller `hashes` [n], by row, come first, so that every process chooses the same ones.

        They are chosen anew only after a row was set that may be among them: rows are set all the time.
        """
        if k > self._most_popular.k:
            popularity = self.columns.log_popularity
            least = np.partition(popularity, -min(k, len(popularity)))[-min(k, len(popularity))]
            popular = np.flatnonzero((popularity >= least) & (popularity > UNPOPULAR))
            of_equal = hashes[np.minimum(popular, len(hashes) - 1)]  # where the index is shorter, it lacks the item
            items = popular[np.lexsort((of_equal, -popularity[popular]))][:k].astype(np.int32)
            self._most_popular = MostPopular(items, k, least)
        return self._most_popular.items[:k]

    def _reserve(self, capacity: int) -> None:
        missing = capacity - len(self.columns.rows)
        if missing > 0:
            more = _unknown(max(missing, len(self.columns.rows)), self.width)
            pairs = zip(self.columns, more, strict=True)
            self.columns = CoVisitColumns(*(np.concatenate([column, new]) for column, new in pairs))

    def _widen(self, width: int) -> None:
        """Make room for rows of this many neighbours. Rows are published in one width, so it happens once or twice."""
        rows, weights = self.columns.rows, self.columns.weights
        missing = ((0, 0), (0, width - self.width))
        self.columns = self.columns._replace(
            rows=np.pad(rows, missing, constant_values=-1), weights=np.pad(weights, missing)
        )


def _unknown(n: int, width: int) -> CoVisitColumns:
    return CoVisitColumns(
        rows=np.full((n, width), -1, np.int32),
        weights=np.zeros((n, width), np.float32),
        log_popularity=np.full(n, UNPOPULAR, np.float32),
        first_seen=np.full(n, -1, np.int64),
        repeat_rate=np.full(n, UNKNOWN_REPEAT_RATE, np.float32),
    )
