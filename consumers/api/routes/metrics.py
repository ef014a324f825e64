"""Metrics of the serving API, beside those of its replica."""

from __future__ import annotations

from http import HTTPStatus

from prometheus_client import CollectorRegistry

from anabranch.metrics import MetricFactory
from consumers.replica.metrics import ReplicaMetrics

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
BATCH = (1, 2, 4, 8, 16, 32, 64)


class ApiMetrics(ReplicaMetrics):
    """What clients asked, and how long it took."""

    def __init__(self, registry: CollectorRegistry, events_topic: str) -> None:
        super().__init__(registry, events_topic)
        new = MetricFactory(registry)
        self._requests = new.counter(
            "anabranch_serve_requests", "Requests by endpoint and status", "endpoint", "status"
        )
        self._seconds = new.histogram(
            "anabranch_serve_seconds", "From the head of a request to its answer", SECONDS, "endpoint"
        )
        self.streams = new.gauge("anabranch_serve_streams", "Open streams of slates")
        self.streams_limit = new.gauge("anabranch_serve_streams_limit", "Beyond them, streams are refused")
        self.stream_slates = new.counter("anabranch_serve_stream_slates", "Slates that were sent in streams")
        self.batch = new.histogram("anabranch_serve_batch_queries", "Queries that were answered at once", BATCH)

    def add_endpoint(self, endpoint: str) -> None:
        """Show an endpoint, from 0 on."""
        self._requests.labels(endpoint, str(int(HTTPStatus.OK)))
        self._seconds.labels(endpoint)

    def answered(self, endpoint: str, status: HTTPStatus, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(endpoint, str(int(status))).inc()
        self._seconds.labels(endpoint).observe(seconds)
