"""The metrics of a ranker's load."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from anabranch.metrics import RankerMetrics
from anabranch.ranking.user_state.layout import StateLayout
from anabranch.ranking.user_state.store import UserStates
from anabranch.ranking.vocabulary import ItemVocabulary
from consumers.ranker.metrics_reporter import MetricsReporter
from tests.support.releases import DIMS, live_release, write_release


@dataclass
class PolledRecord:
    """The part of a record that the reporter reads."""

    timestamp: int


def test_backpressure_is_the_age_of_the_oldest_event_in_the_batch() -> None:
    registry = CollectorRegistry()
    report = MetricsReporter(RankerMetrics(registry), batch_max=3)
    now = int(1000 * time.time())
    report.polled([PolledRecord(now - 500), PolledRecord(now - 2_000), PolledRecord(-1)])
    assert registry.get_sample_value("anabranch_backpressure_seconds") == pytest.approx(2, abs=0.5)
    assert registry.get_sample_value("anabranch_full_batches_total") == 1

    report.polled([PolledRecord(now)])
    assert registry.get_sample_value("anabranch_full_batches_total") == 1
    report.polled([])
    assert registry.get_sample_value("anabranch_backpressure_seconds") == 0


def test_index_changes_that_are_searched_exhaustively_are_counted(tmp_path: Path) -> None:
    write_release(tmp_path / "r1", "r1", ["a", "b"])
    live = live_release(tmp_path / "r1", ItemVocabulary(), ["a", "b"])
    states = UserStates(StateLayout(), DIMS, DIMS)
    for changes in (0, 1):
        live.index.rebuild()
        live.index.remove(np.arange(changes, dtype=np.int32))
        registry = CollectorRegistry()
        MetricsReporter(RankerMetrics(registry), batch_max=3).state(states, 0, live)
        assert registry.get_sample_value("anabranch_index_unfolded") == changes
