from __future__ import annotations

import time
from typing import get_args

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from anabranch.messages import DeadLetterCategory
from anabranch.metrics import (
    LATENCY_S,
    RANKER_STAGES,
    BulkHistogram,
    RankerMetrics,
    ReshareMetrics,
)
from consumers.indexer.metrics import IndexerMetrics


def test_two_rankers_in_one_process_share_nothing() -> None:
    one, other = CollectorRegistry(), CollectorRegistry()
    RankerMetrics(one).events.inc()
    RankerMetrics(other)
    assert one.get_sample_value("anabranch_events_total") == 1
    assert other.get_sample_value("anabranch_events_total") == 0


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def test_a_counter_whose_labels_are_known_has_all_of_them_from_the_start_at_0() -> None:
    """Else its first increments are no increase to Prometheus, which sees a series only begin."""
    ranker, reshare = CollectorRegistry(), CollectorRegistry()
    RankerMetrics(ranker)
    ReshareMetrics(reshare)
    for category in get_args(DeadLetterCategory):
        assert value(ranker, "anabranch_dead_letters_total", reason=category) == 0
    for stage in RANKER_STAGES:
        assert value(ranker, "anabranch_stage_seconds_count", stage=stage) == 0
    assert value(ranker, "anabranch_events_ignored_total", reason="duplicate") == 0
    assert value(ranker, "anabranch_events_corrected_total", reason="clock_skew") == 0
    for outcome in ReshareMetrics.OUTCOMES:
        assert value(reshare, "anabranch_reshare_runs_total", outcome=outcome) == 0


def test_the_status_of_the_main_loop_is_exported() -> None:
    registry = CollectorRegistry()
    metrics = RankerMetrics(registry)
    assert value(registry, "anabranch_ready") == 0
    metrics.loop.turned(None)
    assert value(registry, "anabranch_ready") == 1
    before = value(registry, "anabranch_loop_age_seconds")
    time.sleep(0.01)
    after = value(registry, "anabranch_loop_age_seconds")
    assert before is not None
    assert after is not None
    assert before < after < 10
    assert value(registry, "anabranch_loop_limit_seconds") == RankerMetrics.LOOP_LIMIT_S


def test_a_process_exports_when_it_started_and_its_memory() -> None:
    registry = CollectorRegistry()
    IndexerMetrics(registry)
    started = value(registry, "process_start_time_seconds")
    assert started is not None
    assert 0 < time.time() - started < 86_400
    assert value(registry, "process_resident_memory_bytes")


def test_the_last_outcome_of_re_sharing_is_the_one_that_is_1_and_each_has_its_time() -> None:
    registry = CollectorRegistry()
    reshare = ReshareMetrics(registry)
    reshare.show("failed", {"live": 100.0, "failed": 200.0}, 50.0)
    assert value(registry, "anabranch_reshare_last", outcome="live") == 0
    assert value(registry, "anabranch_reshare_last", outcome="failed") == 1
    assert value(registry, "anabranch_reshare_timestamp_seconds", outcome="failed") == 200
    assert value(registry, "anabranch_reshare_timestamp_seconds", outcome="waiting") == 0


def test_the_age_of_re_sharing_counts_from_the_last_run_that_did_not_fail_or_from_the_first_start() -> None:
    registry, now = CollectorRegistry(), time.time()
    reshare = ReshareMetrics(registry)
    reshare.show(None, {}, now - 300)
    assert value(registry, "anabranch_reshare_age_seconds") == pytest.approx(300, abs=5)
    reshare.show("failed", {"failed": now - 1}, now - 300)
    assert value(registry, "anabranch_reshare_age_seconds") == pytest.approx(300, abs=5)
    reshare.show("failed", {"failed": now - 1, "waiting": now - 100, "live": now - 200}, now - 300)
    assert value(registry, "anabranch_reshare_age_seconds") == pytest.approx(100, abs=5)


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
