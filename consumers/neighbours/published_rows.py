"""Which rows of the co-visit table are to be published: those that differ from what was published last."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anabranch.co_visit.table import CoVisitTable
from anabranch.ranking.types import Mask

MOVED = 0.05
"""Share of a row's weight that must have moved to other neighbours. A newcomer in its first half needs no share."""
CHANGED = 0.1
"""Relative change of its popularity or its repeat rate."""
NO_ROW = -1


class PublishedRows:
    """The newest published row of every item.

    Rows are numbered in the order in which they come: an item without one, such as that of another shard, takes four
    bytes.
    """

    def __init__(self, width: int) -> None:
        self._row_of_item = np.zeros(0, np.int32)
        """[C] by item, the number of its row; NO_ROW for an item that has none."""
        self._row_count = 0
        self._neighbours = np.full((0, width), -1, np.int32)
        self._share = np.zeros((0, width), np.float32)
        self._popularity = np.zeros(0, np.float32)
        self._repeat_rate = np.zeros(0, np.float32)
        self._is_published = np.zeros(0, np.bool_)

    def differing(self, table: CoVisitTable) -> Mask:
        """Which rows [n] of a table differ enough from the published ones; one that was never published does."""
        row = self._number(table.item)
        is_same = table.neighbours[:, :, None] == self._neighbours[row][:, None, :]
        before = np.where(is_same & (table.neighbours >= 0)[:, :, None], self._share[row][:, None, :], 0).sum(axis=2)
        moved = np.abs(table.share - before).sum(axis=1) + self._share[row].sum(axis=1) - before.sum(axis=1)
        weight = np.maximum(table.share.sum(axis=1), self._share[row].sum(axis=1))
        is_new = ~is_same.any(axis=2) & (table.neighbours >= 0)
        differs: Mask = (
            ~self._is_published[row]
            | is_new[:, : (table.neighbours.shape[1] + 1) // 2].any(axis=1)
            | (moved > 2 * MOVED * weight)
            | _has_changed(table.popularity, self._popularity[row])
            | _has_changed(table.repeat_rate, self._repeat_rate[row])
        )
        return differs

    def remember(self, table: CoVisitTable) -> None:
        """All rows of the table were published."""
        row = self._number(table.item)
        self._neighbours[row] = table.neighbours
        self._share[row] = table.share
        self._popularity[row] = table.popularity
        self._repeat_rate[row] = table.repeat_rate
        self._is_published[row] = True

    def _number(self, items: NDArray[np.int32]) -> NDArray[np.int32]:
        """The numbers of the rows of distinct items [n]; new ones for items that have none."""
        missing = int(items.max(initial=-1)) + 1 - len(self._row_of_item)
        if missing > 0:
            self._row_of_item = np.pad(
                self._row_of_item, (0, max(missing, len(self._row_of_item), 1024)), constant_values=NO_ROW
            )
        new = items[self._row_of_item[items] == NO_ROW]
        self._row_of_item[new] = np.arange(self._row_count, self._row_count + len(new))
        self._row_count += len(new)
        self._reserve(self._row_count)
        return self._row_of_item[items]

    def _reserve(self, rows: int) -> None:
        missing = rows - len(self._popularity)
        if missing <= 0:
            return
        more = max(missing, len(self._popularity), 1024)
        self._neighbours = np.pad(self._neighbours, ((0, more), (0, 0)), constant_values=-1)
        self._share = np.pad(self._share, ((0, more), (0, 0)))
        self._popularity = np.pad(self._popularity, (0, more))
        self._repeat_rate = np.pad(self._repeat_rate, (0, more))
        self._is_published = np.pad(self._is_published, (0, more))


def _has_changed(value: NDArray[np.float32], before: NDArray[np.float32]) -> Mask:
    changed: Mask = np.abs(value - before) > CHANGED * np.maximum(value, before)
    return changed
