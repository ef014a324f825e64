"""Background work on the live release's item index: rebuilds, and tuning its HNSW search to the users it serves."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from anabranch.metrics import ServingMetrics
from anabranch.ranking.retrieval.ann_index import AnnIndex
from anabranch.ranking.retrieval.item_index import ItemIndex
from anabranch.ranking.retrieval.query_sample import SAMPLE_SIZE, QuerySample
from anabranch.ranking.types import Slots, Vectors, YieldCpu
from anabranch.throttle import Throttle
from consumers.runtime.background import run_in_background

log = logging.getLogger(__name__)

RECALL_INTERVAL_S = 10
RECALL_VALID_S = 300
"""How long a measured recall is reported: without events it is not measured again, and says nothing any more."""


class IndexRebuilder:
    """Starts a rebuild when the index needs one, and swaps the new base in between two batches once it is built."""

    def __init__(self) -> None:
        self._rebuild: tuple[ItemIndex, Future[AnnIndex]] | None = None

    def poll(self, index: ItemIndex) -> None:
        """Call between two batches, with the live release's index. Raises the error that ended a rebuild."""
        if self._rebuild is not None and self._rebuild[1].done():
            rebuilt_index, base = self._rebuild
            self._rebuild = None
            rebuilt_index.swap_base(base.result())
            log.info(
                "swapped in an index base of %d items; %d items changed during the rebuild",
                len(rebuilt_index.base),
                rebuilt_index.pending_changes,
            )
        if self._rebuild is None and index.needs_rebuild:
            self._rebuild = index, run_in_background("index-rebuild", index.start_rebuild().build)


@dataclass(frozen=True)
class MeasuredRecall:
    """A recall, of which index base, on how many users, and when (monotonic, seconds)."""

    recall: float
    base: AnnIndex
    users: int
    measured_at: float


class RecallMonitor:
    """Reports the recall of the live index against exact search, and tunes `efSearch` to the users it serves.

    The `efSearch` that reaches the target recall depends on where the user vectors lie: those of an encoder early in
    its training lie further from any item than those of a well-trained one. A new base is tuned once a full sample of
    users has been ranked, and again every `RECALL_INTERVAL_S`.
    """

    def __init__(self, metrics: ServingMetrics, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._due = Throttle(RECALL_INTERVAL_S, monotonic)
        self._measured: MeasuredRecall | None = None
        self._base: AnnIndex | None = None
        self._sample = QuerySample()
        self._tuned = False
        self._search: Future[None] | None = None
        metrics.index_recall.set_function(lambda: math.nan if (valid := self._valid()) is None else valid.recall)
        metrics.index_recall_users.set_function(lambda: 0 if (valid := self._valid()) is None else valid.users)

    def observe(self, base: AnnIndex, vectors: NDArray[np.float16], slots: Slots) -> None:
        """Sample the users just ranked, at distinct `slots` [U] of user vectors [n, d]; start a search when it is due.

        Raises the error that ended a search.
        """
        if base is not self._base:
            self._base, self._tuned = base, False
            self._sample.clear()
        self._sample.add(vectors, slots)
        if self._search is not None:
            if not self._search.done():
                return
            self._search.result()
        if not len(base):
            return
        is_full = self._sample.is_full
        if self._due() or (is_full and not self._tuned):
            self._tuned = is_full
            self._search = run_in_background("index-recall", partial(self._tune, base, self._sample.queries))

    def _tune(self, base: AnnIndex, queries: Vectors, yield_cpu: YieldCpu) -> None:
        measure = base.tune if len(queries) == SAMPLE_SIZE else base.recall
        self._measured = MeasuredRecall(measure(queries, yield_cpu), base, len(queries), self._monotonic())

    def _valid(self) -> MeasuredRecall | None:
        """The recall of the index that serves, if it was measured lately; any thread may ask."""
        measured = self._measured
        if measured is None or measured.base is not self._base:
            return None
        return measured if self._monotonic() - measured.measured_at <= RECALL_VALID_S else None
