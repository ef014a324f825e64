"""Metrics of a replica, beside those of every process that ranks."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry

from anabranch.metrics import MetricFactory, ServingMetrics


class ReplicaMetrics(ServingMetrics):
    """What a replica follows."""

    def __init__(self, registry: CollectorRegistry, events_topic: str) -> None:
        super().__init__(registry)
        self._events_topic = events_topic
        self.applied = MetricFactory(registry).counter(
            "anabranch_events_applied", "Events applied to the user states of a replica"
        )

    def show_lags(self, lags: Mapping[int, int]) -> None:
        """Set the lag of each partition whose end is known."""
        for partition, lag in lags.items():
            self.lag.labels(self._events_topic, str(partition)).set(lag)
