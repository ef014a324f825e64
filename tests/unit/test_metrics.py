from __future__ import annotations

import socket
import urllib.request

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from anabranch import metrics
from anabranch.errors import UsageError
from anabranch.metrics import LATENCY_S, BulkHistogram, IndexerMetrics, RankerMetrics, ReshareMetrics


def test_two_rankers_in_one_process_share_nothing() -> None:
    one, other = CollectorRegistry(), CollectorRegistry()
    RankerMetrics(one).events.inc()
    RankerMetrics(other)
    assert one.get_sample_value("anabranch_events_total") == 1
    assert other.get_sample_value("anabranch_events_total") == 0


def test_what_is_served_is_the_registry() -> None:
    registry = CollectorRegistry()
    IndexerMetrics(registry).items.set(7)
    with (
        metrics.serve(registry, 0) as server,
        urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer,
    ):
        assert b"anabranch_catalogue_items 7.0" in answer.read()


def test_a_taken_port_says_what_to_do() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(UsageError, match="choose another --metrics-port"),
    ):
        metrics.serve(CollectorRegistry(), taken.getsockname()[1])


def test_the_last_outcome_of_re_sharing_is_the_one_that_is_1() -> None:
    registry = CollectorRegistry()
    reshare = ReshareMetrics(registry)
    reshare.outcome("live")
    reshare.outcome("rejected")
    assert registry.get_sample_value("anabranch_reshare_last", {"outcome": "live"}) == 0
    assert registry.get_sample_value("anabranch_reshare_last", {"outcome": "rejected"}) == 1
    assert b"anabranch_reshare_age_seconds" in generate_latest(registry)


def test_waiting_for_more_events_is_no_failure() -> None:
    registry = CollectorRegistry()
    reshare = ReshareMetrics(registry)
    reshare.outcome("failed")
    reshare.outcome("waiting")
    assert registry.get_sample_value("anabranch_reshare_last", {"outcome": "failed"}) == 0
    assert registry.get_sample_value("anabranch_reshare_last", {"outcome": "waiting"}) == 1


def test_many_values_at_once_are_told_as_one_by_one() -> None:
    values = np.array([0.00390625, 0.25, 0.25390625, 1, 299, 1e6])
    one, many = CollectorRegistry(), CollectorRegistry()
    histogram = Histogram("waited", "How long", buckets=LATENCY_S, registry=one)
    for value in values.tolist():
        histogram.observe(value)
    bulk = BulkHistogram("waited", "How long", buckets=LATENCY_S, registry=many)
    bulk.observe_all(values[:2])
    bulk.observe_all(values[2:])
    created = [line for line in generate_latest(one).decode().splitlines() if "_created" not in line]
    assert generate_latest(many).decode().splitlines() == created
