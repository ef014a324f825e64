"""What a ranker tells of the pressure it is under."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest
from prometheus_client import CollectorRegistry

from anabranch.metrics import RankerMetrics
from consumers.ranker_metrics import BatchReport


@dataclass
class Taken:
    """As much of a record as the report reads."""

    timestamp: int


def test_backpressure_is_how_long_the_oldest_event_taken_had_waited() -> None:
    registry = CollectorRegistry()
    report = BatchReport(RankerMetrics(registry), batch_max=3)
    now = int(1000 * time.time())
    report.taken([Taken(now - 500), Taken(now - 2_000), Taken(-1)])
    assert registry.get_sample_value("anabranch_backpressure_seconds") == pytest.approx(2, abs=0.5)
    assert registry.get_sample_value("anabranch_full_batches_total") == 1

    report.taken([Taken(now)])
    assert registry.get_sample_value("anabranch_full_batches_total") == 1
    report.taken([])
    assert registry.get_sample_value("anabranch_backpressure_seconds") == 0
