"""The co-visit table as the ranker reads it: neighbours, popularity, first sight and repeat rate of every item."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anabranch.messages import UNKNOWN_REPEAT_RATE
from anabranch.ranking.item_ids import Rows


class NeighbourTable:
    """Arrays by item row, grown as items appear. Filled from the `neighbours` topic or the co-visit seed."""

    def __init__(self, width: int = 20) -> None:
        self.width = width
        self._rows: Rows = np.full((1024, width), -1, np.int32)
        self._weights: NDArray[np.float32] = np.zeros((1024, width), np.float32)
        self._popularity: NDArray[np.float32] = np.zeros(1024, np.float32)
        self._first_seen: NDArray[np.int64] = np.full(1024, -1, np.int64)
        self._repeat_rate: NDArray[np.float32] = np.full(1024, UNKNOWN_REPEAT_RATE, np.float32)

    def set(
        self,
        row: int,
        rows: Rows,
        weights: NDArray[np.float32],
        popularity: float,
        first_seen: int,
        repeat_rate: float,
    ) -> None:
        """Set an item's neighbours, strongest first; those beyond `width` are left out. first_seen in ms."""
        self._reserve(row + 1)
        n = min(len(rows), self.width)
        self._rows[row] = -1
        self._weights[row] = 0
        self._rows[row, :n] = rows[:n]
        self._weights[row, :n] = weights[:n]
        self._popularity[row] = popularity
        self._first_seen[row] = first_seen
        self._repeat_rate[row] = repeat_rate

    def remove(self, row: int) -> None:
        """Forget an item's neighbours and counts."""
        if row < len(self._rows):
            self.set(row, np.empty(0, np.int32), np.empty(0, np.float32), 0.0, -1, UNKNOWN_REPEAT_RATE)

    def of(self, rows: Rows) -> tuple[Rows, NDArray[np.float32]]:
        """Neighbours and weights, both [..., width], of rows [...]; -1 and 0 where there are none."""
        known, at = self._inside(rows)
        return (
            np.where(known[..., None], self._rows[at], -1).astype(np.int32),
            np.where(known[..., None], self._weights[at], 0).astype(np.float32),
        )

    def popularity(self, rows: Rows) -> NDArray[np.float32]:
        """Each item's share of all decayed counts, 0 where none is known."""
        known, at = self._inside(rows)
        return np.where(known, self._popularity[at], 0).astype(np.float32)

    def first_seen(self, rows: Rows) -> NDArray[np.int64]:
        """Milliseconds of the first event about each item, -1 where none is known."""
        known, at = self._inside(rows)
        return np.where(known, self._first_seen[at], -1)

    def repeat_rate(self, rows: Rows) -> NDArray[np.float32]:
        """Share of each item's users who came back to it, `UNKNOWN_REPEAT_RATE` where none is known."""
        known, at = self._inside(rows)
        return np.where(known, self._repeat_rate[at], UNKNOWN_REPEAT_RATE).astype(np.float32)

    def _inside(self, rows: Rows) -> tuple[NDArray[np.bool_], Rows]:
        known = (rows >= 0) & (rows < len(self._rows))
        return known, np.where(known, rows, 0)

    def _reserve(self, capacity: int) -> None:
        short = capacity - len(self._rows)
        if short <= 0:
            return
        n = max(short, len(self._rows))
        self._rows = np.concatenate([self._rows, np.full((n, self.width), -1, np.int32)])
        self._weights = np.concatenate([self._weights, np.zeros((n, self.width), np.float32)])
        self._popularity = np.concatenate([self._popularity, np.zeros(n, np.float32)])
        self._first_seen = np.concatenate([self._first_seen, np.full(n, -1, np.int64)])
        self._repeat_rate = np.concatenate([self._repeat_rate, np.full(n, UNKNOWN_REPEAT_RATE, np.float32)])
