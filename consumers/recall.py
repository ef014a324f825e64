"""The index held against an exact search, while it serves."""

from __future__ import annotations

from collections import deque

from anabranch.metrics import RankerMetrics
from anabranch.ranking.index import ItemIndex
from anabranch.ranking.index_base import RECALL_AT, Vectors
from anabranch.ranking.state import Slots
from consumers.every import Every

EVERY_S = 10
SAMPLED_USERS = 4
"""User vectors searched exactly for one figure of recall; each costs a scan of the catalogue."""
LEAST = 0.95
"""An index that finds less is to search more. It was tuned to find more, for users as a release foresees them."""
SAMPLES = 8
"""Figures that say so together."""


class RecallWatch:
    """Tells the recall of the live index, and widens the search where it stays too low."""

    def __init__(self, metrics: RankerMetrics) -> None:
        self._metrics = metrics
        self._due = Every(EVERY_S)
        self._newest: deque[float] = deque(maxlen=SAMPLES)

    def look(self, index: ItemIndex, vectors: Vectors, slots: Slots) -> None:
        """Search for some of the users just ranked, if it is time to: `slots` [B] of user vectors [n, d]."""
        if not self._due() or not len(index):
            return
        self._newest.append(index.recall(vectors[slots[:SAMPLED_USERS]], RECALL_AT))
        self._metrics.index_recall.set(self._newest[-1])
        if len(self._newest) == SAMPLES and sum(self._newest) / SAMPLES < LEAST:
            index.widen()
            self._newest.clear()
