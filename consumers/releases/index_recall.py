"""The index held against an exact search, for the users it serves, and tuned to them."""

from __future__ import annotations

from concurrent.futures import Future
from functools import partial

import numpy as np
from numpy.typing import NDArray

from anabranch.metrics import RankerMetrics
from anabranch.ranking.retrieval.ann_index import AnnIndex
from anabranch.ranking.types import Slots, Vectors, YieldCpu
from consumers.runtime.background import run_in_background
from consumers.runtime.throttle import Every

EVERY_S = 10
SAMPLE = 64
"""User vectors searched exactly for one figure of recall; each costs a scan of the catalogue."""


class RecallWatch:
    """Tells the recall of the live index, and has it search as broadly as these users need.

    How broad a walk finds enough is up to where users lie: a young encoder's are further from any item than a grown
    one's. A base that is new is tuned as soon as enough users have come, and then again and again.
    """

    def __init__(self, metrics: RankerMetrics) -> None:
        self._metrics = metrics
        self._due = Every(EVERY_S)
        self._base: AnnIndex | None = None
        self._newest: dict[int, Vectors] = {}
        """Vector of each of the users ranked last, by slot."""
        self._random = np.random.default_rng(0)
        self._tuned = False
        self._under_way: Future[None] | None = None

    def look(self, base: AnnIndex, vectors: NDArray[np.float16], slots: Slots) -> None:
        """Remember some of the users just ranked, at distinct `slots` [U] of user vectors [n, d]; search if it is time.

        Raises what ended a search.
        """
        if base is not self._base:
            self._base, self._newest, self._tuned = base, {}, False
        self._remember(vectors, self._random.choice(slots, min(SAMPLE, len(slots)), replace=False))
        if self._under_way is not None:
            if not self._under_way.done():
                return
            self._under_way.result()
        if not len(base):
            return
        enough = len(self._newest) == SAMPLE
        if self._due() or (enough and not self._tuned):
            self._tuned = enough
            users = np.stack(list(self._newest.values()))
            self._under_way = run_in_background("index-recall", partial(self._tune, base, users))

    def _remember(self, vectors: NDArray[np.float16], slots: Slots) -> None:
        for slot, vector in zip(slots.tolist(), vectors[slots].astype(np.float32), strict=True):
            self._newest.pop(slot, None)
            self._newest[slot] = vector
        for slot in list(self._newest)[:-SAMPLE]:
            del self._newest[slot]

    def _tune(self, base: AnnIndex, users: Vectors, between: YieldCpu) -> None:
        find = base.tune if len(users) == SAMPLE else base.recall
        self._metrics.index_recall.set(find(users, between))
