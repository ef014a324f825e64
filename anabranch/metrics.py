"""The metrics of every process, each in its own registry.

A counter whose labels are known has all of them from the start, at 0: Prometheus sees no increase in a series that
begins with its first increment.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from anabranch.loop_status import LoopStatus
from anabranch.messages import DeadLetterCategory
from anabranch.rules import Action

LATENCY_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
STAGE_S = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
RANKER_STAGES = ("decode", "encode", "retrieve", "features", "order", "join", "write", "publish")
BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


class BulkHistogram(Collector):
    """A histogram that observes a batch of values at once, in the time `Histogram` needs for one or two values."""

    def __init__(self, name: str, documentation: str, buckets: tuple[float, ...], registry: CollectorRegistry) -> None:
        self._name, self._documentation = name, documentation
        self._bounds = np.array(buckets)
        self._counts, self._sum = np.zeros(len(buckets) + 1, np.int64), 0.0
        registry.register(self)

    def observe_all(self, values: NDArray[np.float64]) -> None:
        """Observe the values [n]. Only one thread may call it; any thread may collect."""
        counts = np.bincount(np.searchsorted(self._bounds, values), minlength=len(self._counts))
        self._counts, self._sum = self._counts + counts, self._sum + float(values.sum())

    def collect(self) -> Iterable[Metric]:
        """The histogram in Prometheus form."""
        bounds = [*map(str, self._bounds.tolist()), "+Inf"]
        buckets = list(zip(bounds, self._counts.cumsum().tolist(), strict=True))
        yield HistogramMetricFamily(self._name, self._documentation, buckets=buckets, sum_value=self._sum)


class MetricFactory:
    """Makes metrics in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry

    def counter(self, name: str, documentation: str, *labels: str) -> Counter:
        """A counter; its sample is `name` with `_total`."""
        return Counter(name, documentation, labels, registry=self.registry)

    def gauge(self, name: str, documentation: str, *labels: str) -> Gauge:
        """A gauge."""
        return Gauge(name, documentation, labels, registry=self.registry)

    def histogram(self, name: str, documentation: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        """A histogram with these upper bounds of its buckets."""
        return Histogram(name, documentation, labels, buckets=buckets, registry=self.registry)

    def info(self, name: str, documentation: str) -> Info:
        """An info; its sample is `name` with `_info`."""
        return Info(name, documentation, registry=self.registry)


class ProcessMetrics:
    """Metrics of every process: its main loop, and what the operating system says of it."""

    LOOP_LIMIT_S = 120.0
    """Between two turns of the main loop. Waits for a broker that does not answer take up to a minute."""

    def __init__(self, registry: CollectorRegistry) -> None:
        new = MetricFactory(registry)
        self.loop = LoopStatus(self.LOOP_LIMIT_S)
        ProcessCollector(registry=registry)
        age = new.gauge("anabranch_loop_age_seconds", "Time since the main loop last turned")
        age.set_function(lambda: self.loop.age_s)
        new.gauge("anabranch_loop_limit_seconds", "A main loop without a turn for longer is stuck").set(
            self.loop.limit_s
        )
        ready = new.gauge("anabranch_ready", "Whether the process does its work, as at /ready")
        ready.set_function(lambda: self.loop.not_ready is None)


class ConsumerMetrics(ProcessMetrics):
    """Metrics of every consuming process: lag and unreadable messages."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        new = MetricFactory(registry)
        self.lag = new.gauge("anabranch_consumer_lag", "Messages behind the end of the log", "topic", "partition")
        self.dead_letters = new.counter("anabranch_dead_letters", "Messages sent to the dead letters", "reason")
        """The label `reason` holds the dead letter's category, such as `invalid`, not the free text of its reason.
        The label keeps its name, because dashboards and alerts use it."""
        for category in get_args(DeadLetterCategory):
            self.dead_letters.labels(category)
        self.passed_over = new.counter(
            "anabranch_messages_passed_over",
            "Messages of releases, item-vectors, neighbours and rankings that could not be read",
            "topic",
        )


class ServingMetrics(ConsumerMetrics):
    """Metrics of a process that ranks: what it ranks with, and the user states that it has in memory."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        new = MetricFactory(registry)
        self._add_release_metrics(new)
        self._add_state_metrics(new)

    def _add_release_metrics(self, new: MetricFactory) -> None:
        self.live_release = new.info("anabranch_live_release", "The release that ranks")
        self.releases = new.counter("anabranch_release_swaps", "Swaps to a new release")
        self.index_items = new.gauge("anabranch_index_items", "Items in the index")
        self.index_unfolded = new.gauge(
            "anabranch_index_unfolded", "Item changes since the last rebuild of the index, searched exhaustively"
        )
        self.index_recall = new.gauge(
            "anabranch_index_recall",
            "Recall of the index against exact search, on a sample of users; NaN unless it was measured lately",
        )
        self.index_recall_users = new.gauge(
            "anabranch_index_recall_users", "Users in the sample of anabranch_index_recall; 0 while that is NaN"
        )
        self.co_visits_at = new.gauge(
            "anabranch_co_visits_timestamp_seconds",
            "Time, since 1970, at which the newest row of the co-visit table was made; 0 without a row",
        )

        self._rules = new.gauge("anabranch_rules", "Merchandisers' rules that hold now", "action")
        self.show_rules([])

    def show_rules(self, actions: Iterable[Action]) -> None:
        """Show how many rules with each action hold."""
        holding = list(actions)
        for action in get_args(Action):
            self._rules.labels(action).set(holding.count(action))

    def _add_state_metrics(self, new: MetricFactory) -> None:
        self.item_id_collisions = new.counter(
            "anabranch_item_id_collisions",
            "Items of events and catalogues that were not used: another item's id has the same hash",
        )
        self.users = new.gauge("anabranch_user_states", "User states in memory")
        self.unnamed_items = new.gauge(
            "anabranch_unnamed_items", "Items of user states that are in no catalogue: only their hashes are kept"
        )
        self.state_bytes = new.gauge("anabranch_user_state_bytes", "Bytes of all user states in memory")
        self.restore_remaining = new.gauge(
            "anabranch_restore_remaining", "Events to replay before a partition is ranked", "partition"
        )
        self.restore_seconds = new.histogram(
            "anabranch_restore_seconds", "From the assignment of a partition to its first ranking", LATENCY_S
        )
        self.restored = new.counter("anabranch_restored_events", "Events replayed without a ranking")
        self.away = new.gauge("anabranch_user_states_away", "User states in the changelog only")
        self.evicted = new.counter("anabranch_user_states_evicted", "User states removed from memory")
        self.recalled = new.counter("anabranch_user_states_recalled", "User states read back from the changelog")


class RankerMetrics(ServingMetrics):
    """Metrics of a ranker."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        new = MetricFactory(registry)
        self._add_event_metrics(new)
        self._add_ranking_metrics(new)
        self._add_save_metrics(new)

    def _add_event_metrics(self, new: MetricFactory) -> None:
        self.polled = new.counter(
            "anabranch_events_polled", "Records polled from the log; those of a batch that was rolled back again"
        )
        self.events = new.counter("anabranch_events", "Events read from the log, counted when their batch is committed")
        self.ignored = new.counter("anabranch_events_ignored", "Events that changed nothing", "reason")
        self.ignored.labels("duplicate")
        self.events_lost = new.counter(
            "anabranch_events_lost",
            "Events that the log lost before they were ranked, or before a saved user state had them",
            "partition",
            "reason",
        )
        self.log_breaks = new.counter(
            "anabranch_log_breaks",
            "Times that ranking went on with a log that lost events, whether their number is known or not",
            "partition",
            "reason",
        )
        self.corrected = new.counter("anabranch_events_corrected", "Events applied with a corrected field", "reason")
        self.corrected.labels("clock_skew")
        self.latency = BulkHistogram(
            "anabranch_event_to_ranking_seconds",
            "From the append of an event to the commit of its ranking",
            buckets=LATENCY_S,
            registry=new.registry,
        )
        self.unknown_item = new.counter(
            "anabranch_events_unknown_item", "Events about an item without a vector in the index"
        )
        self.batch = new.histogram("anabranch_batch_events", "Events per transaction", BATCH)
        self.waited = new.gauge(
            "anabranch_backpressure_seconds",
            "Wait of the oldest event in the newest batch; 0 without a backlog",
        )
        self.full = new.counter(
            "anabranch_full_batches", "Batches of batch_max events: events arrive faster than they are ranked"
        )
        self.stage = new.histogram(
            "anabranch_stage_seconds",
            f"Time of a batch in a stage, all threads together: {', '.join(RANKER_STAGES)}",
            STAGE_S,
            "stage",
        )
        for stage in RANKER_STAGES:
            self.stage.labels(stage)
        self.aborted = new.counter("anabranch_transactions_aborted", "Transactions that were rolled back")
        self.prequential_events = new.counter(
            "anabranch_prequential_events", "Events about an item of users with a slate", "release"
        )
        self.prequential_hits = new.counter(
            "anabranch_prequential_hits", "Events whose item was on the user's slate", "release"
        )

    def _add_ranking_metrics(self, new: MetricFactory) -> None:
        self.rankings = new.counter("anabranch_rankings", "Rankings committed")
        self.explored_places = new.counter(
            "anabranch_explored_places", "Places of committed rankings that were drawn at random, see explore_places"
        )
        self.explored_new_items = new.counter(
            "anabranch_explored_new_items", "Explored places that have a new item, see explore_new_items"
        )
        self.impressions = new.counter("anabranch_impressions", "Events that say what users were shown")
        self.followed_answers = new.counter(
            "anabranch_followed_answers", "Events whose ranking_id is of an answer of the serving API"
        )
        self.followed_hits = new.counter("anabranch_followed_hits", "Those of them whose item was in the answer")
        self.resting_candidates = new.counter(
            "anabranch_resting_candidates",
            "Candidates that rest because the user was shown them, of all placements with a rotation",
        )

    def _add_save_metrics(self, new: MetricFactory) -> None:
        self.states_saved = new.counter("anabranch_user_states_saved", "User states saved")
        self.states_dirty = new.gauge("anabranch_user_states_dirty", "User states that changed since their last save")


class ReshareMetrics(ProcessMetrics):
    """Metrics of the retraining job. What became of its runs outlives the process: see `RunHistory`."""

    LOOP_LIMIT_S = 3600.0
    """Between two steps that the progress bars show: some stages of training take minutes."""
    OUTCOMES = ("live", "rejected", "waiting", "failed")
    """`waiting`: too few new events to train a release candidate, or to judge it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        new = MetricFactory(registry)
        self._last = new.gauge("anabranch_reshare_last", "1 for the outcome of the last run", "outcome")
        self._ended_at = new.gauge(
            "anabranch_reshare_timestamp_seconds",
            "Time, since 1970, at which the last run with this outcome ended; 0 if none did",
            "outcome",
        )
        self.runs = new.counter("anabranch_reshare_runs", "Runs of this process by outcome", "outcome")
        self.seconds = new.gauge("anabranch_reshare_seconds", "Duration of the last run")
        self.events = new.gauge("anabranch_reshare_events", "Events that the last run was trained on")
        self.missed = new.counter(
            "anabranch_reshare_missed_records", "Records that retention deleted before a run could read them"
        )
        self.unusual_users = new.gauge(
            "anabranch_reshare_unusual_users", "Users left out of the newest co-visit table: no person is so active"
        )
        self.neighbours_kept = new.gauge(
            "anabranch_reshare_neighbours_kept",
            "Share of the strongest neighbours that the newest co-visit table kept; NaN before there are two tables",
        )
        self.neighbours_kept.set(math.nan)
        self.tables_held_back = new.counter(
            "anabranch_reshare_tables_held_back", "Co-visit tables not published: they would lower the live release"
        )
        self._succeeded_at_s = time.time()
        age = new.gauge(
            "anabranch_reshare_age_seconds",
            "Time since the end of the last run that did not fail, or since the first start",
        )
        age.set_function(lambda: time.time() - self._succeeded_at_s)
        for outcome in self.OUTCOMES:
            self.runs.labels(outcome)

    def show(self, last: str | None, ended_at_s: Mapping[str, float], first_start_s: float) -> None:
        """Show the outcome of the last run, the time at which the last run with each outcome ended, and the time of the
        first start, in seconds since 1970."""
        for outcome in self.OUTCOMES:
            self._last.labels(outcome).set(outcome == last)
            self._ended_at.labels(outcome).set(ended_at_s.get(outcome, 0.0))
        successes = [ended for outcome, ended in ended_at_s.items() if outcome != "failed"]
        self._succeeded_at_s = max(successes, default=first_start_s)


class Stopwatch:
    """Adds up the seconds of each stage over all threads, for a histogram with the label `stage`."""

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._laps: list[tuple[str, float]] = []

    def start_timer(self) -> Callable[[str], None]:
        """Start a timer in the calling thread. It returns a function: `lap("encode")` ends the stage "encode", which
        began at the lap before, or at the start."""
        started_at = time.perf_counter()

        def lap(stage: str) -> None:
            nonlocal started_at
            now = time.perf_counter()
            self._laps.append((stage, now - started_at))
            started_at = now

        return lap

    def record(self) -> None:
        """Observe the sum of each stage. Call this once, after the last lap."""
        total_s: dict[str, float] = {}
        for stage, seconds in self._laps:
            total_s[stage] = total_s.get(stage, 0.0) + seconds
        for stage, seconds in total_s.items():
            self._histogram.labels(stage).observe(seconds)


def release_info(release: str, strategy: Mapping[str, object], created: int) -> dict[str, str]:
    """Labels of `anabranch_live_release`."""
    return {"release": release, "strategy": str(strategy.get("name", "")), "created": str(created)}
