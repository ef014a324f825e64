"""Every metric, in a registry of its own per process object, and its server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Self
from wsgiref.simple_server import WSGIServer

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, start_http_server
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from anabranch.errors import UsageError

LATENCY_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
STAGE_S = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


class BulkHistogram(Collector):
    """A histogram that takes many values at once: a batch's, in the time that `Histogram` takes for one or two."""

    def __init__(self, name: str, documentation: str, buckets: tuple[float, ...], registry: CollectorRegistry) -> None:
        self._name, self._documentation = name, documentation
        self._bounds = np.array(buckets)
        self._counts, self._sum = np.zeros(len(buckets) + 1, np.int64), 0.0
        registry.register(self)

    def observe_all(self, values: NDArray[np.float64]) -> None:
        """Count the values [n]. To be called by one thread alone; any may collect."""
        found = np.bincount(np.searchsorted(self._bounds, values), minlength=len(self._counts))
        self._counts, self._sum = self._counts + found, self._sum + float(values.sum())

    def collect(self) -> Iterable[Metric]:
        """What Prometheus reads."""
        bounds = [*map(str, self._bounds.tolist()), "+Inf"]
        buckets = list(zip(bounds, self._counts.cumsum().tolist(), strict=True))
        yield HistogramMetricFamily(self._name, self._documentation, buckets=buckets, sum_value=self._sum)


class ConsumerMetrics:
    """What every process that consumes tells: its lag and what it could not read."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.lag = Gauge(
            "anabranch_consumer_lag", "Messages behind the end of the log", ["topic", "partition"], registry=registry
        )
        self.dead_letters = Counter(
            "anabranch_dead_letters", "Messages sent to the dead letters", ["reason"], registry=registry
        )
        self.passed_over = Counter(
            "anabranch_messages_passed_over",
            "Messages on releases, item-vectors, neighbours and rankings that could not be read",
            ["topic"],
            registry=registry,
        )


class RankerMetrics(ConsumerMetrics):
    """What a ranker tells."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        self.events = Counter("anabranch_events", "Events taken from the log", registry=registry)
        self.ignored = Counter(
            "anabranch_events_ignored", "Events that were read and moved nothing", ["reason"], registry=registry
        )
        self.corrected = Counter(
            "anabranch_events_corrected", "Events applied otherwise than they say", ["reason"], registry=registry
        )
        self.rankings = Counter("anabranch_rankings", "Rankings committed", registry=registry)
        self.latency = BulkHistogram(
            "anabranch_event_to_ranking_seconds",
            "From the event's append to the commit of its ranking",
            buckets=LATENCY_S,
            registry=registry,
        )
        self.batch = Histogram("anabranch_batch_events", "Events in one transaction", buckets=BATCH, registry=registry)
        self.waited = Gauge(
            "anabranch_backpressure_seconds",
            "How long the oldest event of the newest batch had waited for it; 0 where none waits",
            registry=registry,
        )
        self.full = Counter(
            "anabranch_full_batches", "Batches ended by batch_max: events come faster than they go", registry=registry
        )
        self.stage = Histogram(
            "anabranch_stage_seconds",
            "Time of one batch in a stage, all threads together: decode, encode, retrieve, features, order, join, "
            "write, publish",
            ["stage"],
            buckets=STAGE_S,
            registry=registry,
        )
        self.index_items = Gauge("anabranch_index_items", "Items the index holds", registry=registry)
        self.index_unfolded = Gauge(
            "anabranch_index_unfolded",
            "Changes of items since the index was rebuilt: every query is compared with each",
            registry=registry,
        )
        self.index_recall = Gauge(
            "anabranch_index_recall",
            "Share of the exact nearest items the index finds, on a sample of users",
            registry=registry,
        )
        self.users = Gauge("anabranch_user_states", "User states held", registry=registry)
        self.state_bytes = Gauge("anabranch_user_state_bytes", "Bytes of all user states", registry=registry)
        self.live_release = Info("anabranch_live_release", "The release that ranks", registry=registry)
        self.releases = Counter("anabranch_release_swaps", "Releases swapped in", registry=registry)
        self.prequential_events = Counter(
            "anabranch_prequential_events", "Events whose user had a slate", ["release"], registry=registry
        )
        self.prequential_hits = Counter(
            "anabranch_prequential_hits", "Events whose item was on the slate", ["release"], registry=registry
        )
        self.restore_remaining = Gauge(
            "anabranch_restore_remaining",
            "Events still to fold before a partition is ranked",
            ["partition"],
            registry=registry,
        )
        self.restore_seconds = Histogram(
            "anabranch_restore_seconds",
            "From taking on a partition to ranking it",
            buckets=LATENCY_S,
            registry=registry,
        )
        self.states_saved = Counter("anabranch_user_states_saved", "User states saved", registry=registry)
        self.states_dirty = Gauge(
            "anabranch_user_states_dirty", "User states ahead of their saved form", registry=registry
        )
        self.away = Gauge("anabranch_user_states_away", "Users whose states only the log holds", registry=registry)
        self.evicted = Counter("anabranch_user_states_evicted", "User states left to the log", registry=registry)
        self.recalled = Counter("anabranch_user_states_recalled", "User states read back from it", registry=registry)
        self.restored = Counter("anabranch_restored_events", "Events folded without ranking", registry=registry)
        self.aborted = Counter(
            "anabranch_transactions_aborted", "Transactions that were rolled back", registry=registry
        )


class IndexerMetrics(ConsumerMetrics):
    """What an indexer tells."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        self.items = Gauge("anabranch_catalogue_items", "Items in the catalogue", registry=registry)
        self.vectors = Counter("anabranch_item_vectors", "Item vectors published", registry=registry)
        self.removed = Counter("anabranch_item_vectors_removed", "Item vectors removed", registry=registry)
        self.backlog = Gauge("anabranch_items_waiting", "Items waiting for a vector", registry=registry)
        self.stage = Histogram(
            "anabranch_stage_seconds",
            "Time of one chunk of items in a stage: text, item",
            ["stage"],
            buckets=STAGE_S,
            registry=registry,
        )
        self.live_release = Info("anabranch_live_release", "The release items are vectorised for", registry=registry)


class ReshareMetrics:
    """What the re-sharing job tells. `outcome` is called at the end of every run."""

    OUTCOMES = ("live", "rejected", "waiting", "failed")
    """`waiting`: there were too few new events to make a candidate of, or to judge it by."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._last = Gauge(
            "anabranch_reshare_last", "1 for the outcome of the last run", ["outcome"], registry=registry
        )
        self.runs = Counter("anabranch_reshare_runs", "Runs, by outcome", ["outcome"], registry=registry)
        self.seconds = Gauge("anabranch_reshare_seconds", "How long the last run took", registry=registry)
        self.events = Gauge("anabranch_reshare_events", "Events the last run learned from", registry=registry)
        self._finished = time.time()
        age = Gauge("anabranch_reshare_age_seconds", "Since the last run ended, or since the start", registry=registry)
        age.set_function(lambda: time.time() - self._finished)

    def outcome(self, outcome: str) -> None:
        """Record how a run ended: one of OUTCOMES."""
        for name in self.OUTCOMES:
            self._last.labels(name).set(name == outcome)
        self.runs.labels(outcome).inc()
        self._finished = time.time()


class Stopwatch:
    """Adds up how long each stage took, in whichever thread, for a histogram."""

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._laps: list[tuple[str, float]] = []

    def begin(self) -> Callable[[str], None]:
        """Begin in the calling thread. `passed("encode")` of what is returned ends the stage that ran until now."""
        since = time.perf_counter()

        def passed(stage: str) -> None:
            nonlocal since
            now = time.perf_counter()
            self._laps.append((stage, now - since))
            since = now

        return passed

    def tell(self) -> None:
        """Everything is over."""
        spent: dict[str, float] = {}
        for stage, seconds in self._laps:
            spent[stage] = spent.get(stage, 0.0) + seconds
        for stage, seconds in spent.items():
            self._histogram.labels(stage).observe(seconds)


class MetricsServer:
    """Serves one registry at /metrics until closed. Its `port` is the one bound."""

    def __init__(self, server: WSGIServer, thread: threading.Thread) -> None:
        self._server = server
        self._thread = thread
        self.port = int(server.server_port)

    def close(self) -> None:
        """Stop serving and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def serve(registry: CollectorRegistry, port: int, host: str = "127.0.0.1") -> MetricsServer:
    """Serve the registry's metrics; port 0 takes any free one. Raises `UsageError` where it is taken."""
    try:
        return MetricsServer(*start_http_server(port, host, registry))
    except OSError as error:
        raise UsageError(
            f"metrics cannot be served on {host}:{port}: {error}; choose another --metrics-port"
        ) from error


def release_info(release: str, strategy: Mapping[str, object], created: int) -> dict[str, str]:
    """Labels of the live release's info."""
    return {"release": release, "strategy": str(strategy.get("name", "")), "created": str(created)}
