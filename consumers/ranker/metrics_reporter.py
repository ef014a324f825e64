"""The ranker's metrics: counters of committed batches, and gauges that are costly to read, only every so often."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np
from kafka.consumer.fetcher import ConsumerRecord

from anabranch.messages import Event
from anabranch.metrics import RankerMetrics
from anabranch.ranking.pipeline.feedback import NO_SLATE, NOT_ON_SLATE
from anabranch.ranking.pipeline.rank import RankingResult
from anabranch.ranking.pipeline.servable import ServableRelease
from anabranch.ranking.ranking_id import followed_ranking
from anabranch.ranking.vocabulary import ReleaseNumbers
from anabranch.throttle import Throttle
from consumers.runtime.clock import Clock
from consumers.runtime.dead_letter import DeadLetter
from consumers.runtime.decoding import DecodedEvent
from consumers.user_states.state_gauges import StateGauges
from consumers.user_states.state_store import StateStore

CLOCK_SKEW_MS = 60_000
"""An event this far ahead of its append has the time of a wrong clock; clocks differ by less."""
GAUGE_INTERVAL_S, LAG_INTERVAL_S, UNKNOWN_ITEMS_INTERVAL_S = 1, 2, 60
MAX_UNKNOWN_ITEM_SHARE = 0.5
"""Of the events of an interval. Items that have left the catalogue, or are too new, are a smaller share."""
MIN_EVENTS = 100
"""Fewer events say nothing about the share."""

log = logging.getLogger(__name__)


class MetricsReporter:
    """Reports committed batches and the state of the process."""

    def __init__(self, metrics: RankerMetrics, batch_max: int, clock: Clock | None = None) -> None:
        self._clock = clock or Clock()
        self._metrics = metrics
        self._batch_max = batch_max
        self._gauges_due = Throttle(GAUGE_INTERVAL_S, self._clock.monotonic)
        self._lag_due = Throttle(LAG_INTERVAL_S, self._clock.monotonic)
        self._unknown_items_due = Throttle(UNKNOWN_ITEMS_INTERVAL_S, self._clock.monotonic)
        self._state_gauges = StateGauges(metrics, self._clock.monotonic)
        self._events_since = self._unknown_items_since = 0
        self.lags: dict[int, int] = {}
        """Events behind the end of each assigned partition, as far as that is known."""

    def polled(self, records: Sequence[ConsumerRecord]) -> None:
        """These records were polled, or there were none."""
        self._metrics.polled.inc(len(records))
        oldest_ms = min((record.timestamp for record in records if record.timestamp >= 0), default=None)
        self._metrics.waited.set(0 if oldest_ms is None else max(0.0, self._clock.wall() - oldest_ms / 1000))
        self._metrics.full.inc(len(records) >= self._batch_max)

    def committed(
        self,
        events: Sequence[DecodedEvent],
        dead_letters: Iterable[DeadLetter],
        result: RankingResult | None,
        releases: ReleaseNumbers,
        committed_at_s: float,
    ) -> None:
        """A batch was committed, at this time since 1970; `result` is None where it held no event."""
        for letter in dead_letters:
            self._metrics.events.inc()
            self._metrics.dead_letters.labels(letter.category).inc()
        if result is not None:
            self._count_events(events, result, committed_at_s)
            self._count_hits(events, result, releases)

    def swapped(self, release: str) -> None:
        """A release has become live: its hits are counted, from 0 on."""
        self._metrics.prequential_events.labels(release)
        self._metrics.prequential_hits.labels(release)

    def state(self, store: StateStore, dirty_users: int, live: ServableRelease | None) -> None:
        """Set the gauges of this process, and count the item ids that collided, if that is due."""
        if self._gauges_due():
            self._state_gauges.show(store, live)
            self._metrics.states_dirty.set(dirty_users)

    def lag(self, topic: str, assigned: Collection[int], read_lag: Callable[[], Mapping[int, int]]) -> None:
        """Set the lag of each assigned partition as far as it is known, if it is due; other processes report the lag of
        the others."""
        if not self._lag_due():
            return
        for partition in self.lags.keys() - set(assigned):
            self._metrics.lag.remove(topic, str(partition))
            del self.lags[partition]
        for partition, lag in read_lag().items():
            self._metrics.lag.labels(topic, str(partition)).set(lag)
            self.lags[partition] = lag

    def _count_events(self, events: Sequence[DecodedEvent], result: RankingResult, committed_at_s: float) -> None:
        fresh = np.flatnonzero(~result.duplicate).tolist()
        appended_ms = np.array([events[index].appended_ms for index in fresh], np.float64)
        self._metrics.latency.observe_all(np.maximum(0.0, committed_at_s - appended_ms / 1000))
        self._metrics.events.inc(len(events))
        self._metrics.batch.observe(len(events))
        self._metrics.rankings.inc(int(result.ranked.sum()))
        self._metrics.explored_places.inc(int(result.explored.sum()))
        self._metrics.explored_new_items.inc(int(result.explored_new.sum()))
        self._metrics.resting_candidates.inc(int(result.resting.sum()))
        self._metrics.ignored.labels("duplicate").inc(len(events) - len(fresh))
        ahead = sum(0 <= events[index].appended_ms < events[index].event.ts - CLOCK_SKEW_MS for index in fresh)
        self._metrics.corrected.labels("clock_skew").inc(ahead)
        impressions = sum(not decoded.event.is_action for decoded in events)
        self._metrics.impressions.inc(impressions)
        self._count_unknown_items(len(fresh) - impressions, int(result.unknown_item.sum()))
        self._count_followed([events[index].event for index in fresh])

    def _count_followed(self, events: Iterable[Event]) -> None:
        followed = [answer for event in events if (answer := followed_ranking(event)) is not None]
        self._metrics.followed_answers.inc(len(followed))
        self._metrics.followed_hits.inc(sum(answer.rank is not None for answer in followed))

    def _count_unknown_items(self, events: int, unknown_items: int) -> None:
        """Events that join with no item are ranked, but say nothing about the user: a warning if they are many."""
        self._metrics.unknown_item.inc(unknown_items)
        self._events_since += events
        self._unknown_items_since += unknown_items
        if self._events_since >= MIN_EVENTS and self._unknown_items_due():
            if self._unknown_items_since > MAX_UNKNOWN_ITEM_SHARE * self._events_since:
                log.warning(
                    "%d of the last %d events are about items that are not in the index: are they in the catalogue, "
                    "with their ids written in the same way?",
                    self._unknown_items_since,
                    self._events_since,
                )
            self._events_since = self._unknown_items_since = 0

    def _count_hits(self, events: Sequence[DecodedEvent], result: RankingResult, releases: ReleaseNumbers) -> None:
        """Prequential hits: the slate that each user had before an event about an item, by the release that made it."""
        rank, shown_release = result.feedback.rank, result.feedback.shown_release
        has_item = np.array([decoded.event.item_of_interest is not None for decoded in events], np.bool_)
        is_scored = has_item & ~result.duplicate & (rank != NO_SLATE)
        for number in np.unique(shown_release[is_scored]).tolist():
            ranks = rank[is_scored & (shown_release == number)]
            release = releases.id(number)
            self._metrics.prequential_events.labels(release).inc(len(ranks))
            self._metrics.prequential_hits.labels(release).inc(int((ranks != NOT_ON_SLATE).sum()))
