"""Metrics of the collector."""

from __future__ import annotations

from http import HTTPStatus

from prometheus_client import CollectorRegistry

from anabranch.http.admission import Admission
from anabranch.metrics import LATENCY_S, MetricFactory, ProcessMetrics

STATUSES = (200, 202, 204, 400, 401, 403, 408, 413, 415, 429, 500, 503)
"""With which requests to send events are answered."""


class CollectorMetrics(ProcessMetrics):
    """Metrics of the collector."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        new = MetricFactory(registry)
        self._requests = new.counter("anabranch_collect_requests", "Requests to send events, by their answer", "status")
        for status in STATUSES:
            self._requests.labels(status)
        self.taken = new.counter("anabranch_collect_events_taken", "Events that the broker has acknowledged")
        self.refused = new.counter("anabranch_collect_events_refused", "Events that are invalid")
        self.ignored = new.counter(
            "anabranch_collect_events_ignored", "Valid events of foreign forms that Anabranch has no use for"
        )
        self.identities = new.counter("anabranch_collect_identities", "Identities that the broker has acknowledged")
        self.unacknowledged = new.counter(
            "anabranch_collect_events_unacknowledged", "Valid events of requests whose events were not all acknowledged"
        )
        self.acknowledged_s = new.histogram(
            "anabranch_collect_acknowledged_seconds",
            "From the decoding of a request to the acknowledgement of its events",
            LATENCY_S,
        )
        self._in_flight = new.gauge("anabranch_collect_requests_in_flight", "Requests whose events are on their way")
        self._bytes = new.gauge("anabranch_collect_bytes_in_flight", "Bytes of the bodies of these requests")
        self._max_in_flight = new.gauge(
            "anabranch_collect_requests_in_flight_limit", "Beyond them, requests are refused"
        )
        self._max_bytes = new.gauge("anabranch_collect_bytes_in_flight_limit", "Beyond them, requests are refused")

    def answered(self, status: int) -> None:
        """Count the answer to a request."""
        self._requests.labels(int(HTTPStatus(status))).inc()

    def watch(self, admission: Admission) -> None:
        """Export what is in flight, and how much may be."""
        self._in_flight.set_function(lambda: admission.requests)
        self._bytes.set_function(lambda: admission.bytes)
        self._max_in_flight.set(admission.max_requests)
        self._max_bytes.set(admission.max_bytes)
