"""Telling the ranker's metrics what happened; costly gauges only every so often."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from kafka.consumer.fetcher import ConsumerRecord

from anabranch.metrics import RankerMetrics
from anabranch.ranking.pipeline.rank import NO_SLATE, NOT_ON_SLATE, Ranked
from anabranch.ranking.pipeline.servable import LiveRelease
from anabranch.ranking.user_state.store import UserStates
from anabranch.ranking.vocabulary import ReleaseNumbers
from consumers.runtime.dead_letter import DeadLetter
from consumers.runtime.decoding import Received
from consumers.runtime.throttle import Every

CLOCK_SKEW_MS = 60_000
"""An event so far ahead of its append was told by a clock that is wrong; less is how clocks are."""


class BatchReport:
    """Reports committed batches and the state of the process."""

    def __init__(self, metrics: RankerMetrics, batch_max: int) -> None:
        self._metrics = metrics
        self._batch_max = batch_max
        self._gauges_due = Every(1)
        self._lag_due = Every(2)

    def taken(self, records: Sequence[ConsumerRecord]) -> None:
        """These records have been taken from the log, or none were there to take."""
        oldest = min((record.timestamp for record in records if record.timestamp >= 0), default=None)
        self._metrics.waited.set(0 if oldest is None else max(0.0, time.time() - oldest / 1000))
        self._metrics.full.inc(len(records) >= self._batch_max)

    def committed(
        self,
        received: Sequence[Received],
        dead: Iterable[DeadLetter],
        ranked: Ranked | None,
        releases: ReleaseNumbers,
        at: float,
    ) -> None:
        """A batch was committed, `at` seconds since 1970; `ranked` is None where it held nothing but dead letters."""
        for letter in dead:
            self._metrics.events.inc()
            self._metrics.dead_letters.labels(letter.category).inc()
        if ranked is not None:
            self._ranked(received, ranked, at)
            self._prequential(ranked, releases)

    def _ranked(self, received: Sequence[Received], ranked: Ranked, at_s: float) -> None:
        fresh = np.flatnonzero(~ranked.duplicate).tolist()
        appended_ms = np.array([received[at].appended_ms for at in fresh], np.float64)
        self._metrics.latency.observe_all(np.maximum(0.0, at_s - appended_ms / 1000))
        self._metrics.events.inc(len(received))
        self._metrics.batch.observe(len(received))
        self._metrics.rankings.inc(int(ranked.ranked.sum()))
        self._metrics.ignored.labels("duplicate").inc(len(received) - len(fresh))
        ahead = sum(0 <= received[at].appended_ms < received[at].event.ts - CLOCK_SKEW_MS for at in fresh)
        self._metrics.corrected.labels("clock_skew").inc(ahead)

    def state(
        self, states: UserStates, dirty: int, live: LiveRelease | None, lag: Callable[[], Mapping[int, int]], topic: str
    ) -> None:
        """Bring the gauges up to date, those that are due."""
        if self._gauges_due():
            self._metrics.users.set(len(states))
            self._metrics.away.set(states.evicted)
            self._metrics.states_dirty.set(dirty)
            self._metrics.state_bytes.set(states.nbytes)
            self._metrics.index_items.set(0 if live is None else len(live.index))
            self._metrics.index_unfolded.set(0 if live is None else live.index.unfolded)
        if self._lag_due():
            for partition, behind in lag().items():
                self._metrics.lag.labels(topic, str(partition)).set(behind)

    def _prequential(self, ranked: Ranked, releases: ReleaseNumbers) -> None:
        judged = ~ranked.duplicate & (ranked.rank != NO_SLATE)
        for number in np.unique(ranked.shown_release[judged]).tolist():
            ranks = ranked.rank[judged & (ranked.shown_release == number)]
            release = releases.id(number)
            self._metrics.prequential_events.labels(release).inc(len(ranks))
            self._metrics.prequential_hits.labels(release).inc(int((ranks != NOT_ON_SLATE).sum()))
