from __future__ import annotations

import socket
import urllib.request

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from anabranch import metrics
from anabranch.errors import UsageError
from anabranch.metrics import IndexerMetrics, RankerMetrics, ReshareMetrics


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
