"""Metrics of the neighbours job."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from anabranch.metrics import ConsumerMetrics, MetricFactory


class NeighboursMetrics(ConsumerMetrics):
    """Metrics of the neighbours job."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        new = MetricFactory(registry)
        self.shards = new.gauge(
            "anabranch_neighbours_shards", "Processes that share the items, by the shard of this one", "shard"
        )
        self.events = new.counter(
            "anabranch_neighbours_events", "Events counted, without duplicates: all of them, whatever the shard"
        )
        self.ignored = new.counter("anabranch_events_ignored", "Events that changed nothing", "reason")
        for reason in ("duplicate", "undecodable"):
            self.ignored.labels(reason)
        self.missed = new.counter(
            "anabranch_neighbours_missed_events", "Events that the log lost before they were counted, if known"
        )
        self.rows = new.counter("anabranch_neighbours_rows", "Rows of the co-visit table published")
        self.waiting = new.gauge("anabranch_neighbours_waiting", "Changed rows that were not looked at yet")
        self.waited = new.gauge(
            "anabranch_neighbours_waiting_seconds", "How long the changed row waits that waits for longest"
        )
        self.items = new.gauge("anabranch_neighbours_items", "Items with a row")
        self.users = new.gauge("anabranch_neighbours_users", "Users whose newest items are remembered")
        self.unusual_users = new.gauge("anabranch_neighbours_unusual_users", "Users left out: no person is so active")
        self.saved_at = new.gauge(
            "anabranch_neighbours_saved_timestamp_seconds", "Time, since 1970, of the newest save; 0 without one"
        )
        self.saved_bytes = new.gauge("anabranch_neighbours_saved_bytes", "Size of the newest save")
