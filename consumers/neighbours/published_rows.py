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


class PublishedRows:
    """The newest published row of every item, by item number."""

    def __init__(self, width: int) -> None:
        self._neighbours = np.full((0, width), -1, np.int32)
        self._share = np.zeros((0, width), np.float32)
        self._popularity = np.zeros(0, np.float32)
        self._repeat_rate = np.zeros(0, np.float32)
        self._is_published = np.zeros(0, np.bool_)

    def differing(self, table: CoVisitTable) -> Mask:
        """Which rows [n] of a table differ enough from the published ones; one that was never published does."""
        self._reserve(int(table.item.max(initial=-1)) + 1)
        item = table.item
        is_same = table.neighbours[:, :, None] == self._neighbours[item][:, None, :]
        before = np.where(is_same & (table.neighbours >= 0)[:, :, None], self._share[item][:, None, :], 0).sum(axis=2)
        moved = np.abs(table.share - before).sum(axis=1) + self._share[item].sum(axis=1) - before.sum(axis=1)
        weight = np.maximum(table.share.sum(axis=1), self._share[item].sum(axis=1))
        is_new = ~is_same.any(axis=2) & (table.neighbours >= 0)
        differs: Mask = (
            ~self._is_published[item]
            | is_new[:, : (table.neighbours.shape[1] + 1) // 2].any(axis=1)
            | (moved > 2 * MOVED * weight)
            | _has_changed(table.popularity, self._popularity[item])
            | _has_changed(table.repeat_rate, self._repeat_rate[item])
        )
        return differs

    def remember(self, table: CoVisitTable) -> None:
        """All rows of the table were published."""
        self._neighbours[table.item] = table.neighbours
        self._share[table.item] = table.share
        self._popularity[table.item] = table.popularity
        self._repeat_rate[table.item] = table.repeat_rate
        self._is_published[table.item] = True

    def _reserve(self, items: int) -> None:
        missing = items - len(self._popularity)
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
