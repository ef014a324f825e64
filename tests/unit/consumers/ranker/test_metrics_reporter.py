"""The metrics of a ranker's load."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from anabranch.messages import Event
from anabranch.metrics import RankerMetrics
from anabranch.ranking.pipeline.feedback import NO_PROPENSITY, NO_SLATE, FeedbackColumns
from anabranch.ranking.pipeline.rank import RankingResult
from anabranch.ranking.ranking_id import Answered, ranking_id
from anabranch.ranking.user_state.store import UserStates
from anabranch.ranking.vocabulary import ItemVocabulary, ReleaseNumbers
from consumers.ranker.metrics_reporter import MIN_EVENTS, MetricsReporter
from consumers.runtime.decoding import DecodedEvent
from consumers.user_states.state_store import StateStore
from tests.support.layouts import LAYOUT
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


def ranked(count: int, unknown: int = 0) -> RankingResult:
    """So many events, of which the first are about unknown items."""
    return RankingResult(
        duplicate=np.zeros(count, np.bool_),
        unknown_item=np.arange(count) < unknown,
        ranked=np.ones(count, np.bool_),
        slates=np.full((count, 1, 1), -1, np.int32),
        scores=np.zeros((count, 1, 1), np.float32),
        explored=np.zeros(count, np.uint8),
        explored_new=np.zeros(count, np.uint8),
        resting=np.zeros(count, np.int32),
        feedback=FeedbackColumns(
            np.full(count, -1, np.int32),
            np.zeros(count, np.int32),
            np.full((count, 1), NO_SLATE, np.int32),
            np.full(count, NO_PROPENSITY),
        ),
    )


@pytest.mark.parametrize(("unknown", "warned"), [(50, False), (51, True)])
def test_events_about_unknown_items_are_counted_and_most_of_them_are_a_warning(
    unknown: int, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    registry, count = CollectorRegistry(), MIN_EVENTS
    event = Event(event_id="e", user_id="u", type="view", ts=1, item_id="i")
    events = [DecodedEvent(event, 0, offset, 1) for offset in range(count)]
    reporter = MetricsReporter(RankerMetrics(registry), batch_max=9)
    reporter.committed(events, [], ranked(count, unknown), ReleaseNumbers(), committed_at_s=1.0)
    assert registry.get_sample_value("anabranch_events_unknown_item_total") == unknown
    assert ("are about items that are not in the index" in caplog.text) is warned


def test_events_that_followed_an_answer_are_counted_and_those_whose_item_was_in_it() -> None:
    registry = CollectorRegistry()
    answer = ranking_id(Answered("r1", "for_you", 1, 0, 1), ["i", "j"])
    echoes = [(answer, "j"), (answer, "k"), ("the shop's own", "i"), (None, "i")]
    events = [
        DecodedEvent(Event(event_id="e", user_id="u", type="view", ts=1, item_id=item, ranking_id=echoed), 0, offset, 1)
        for offset, (echoed, item) in enumerate(echoes)
    ]
    reporter = MetricsReporter(RankerMetrics(registry), batch_max=9)
    reporter.committed(events, [], ranked(len(events)), ReleaseNumbers(), committed_at_s=1.0)
    assert registry.get_sample_value("anabranch_followed_answers_total") == 2
    assert registry.get_sample_value("anabranch_followed_hits_total") == 1


def test_index_changes_that_are_searched_exhaustively_are_counted(tmp_path: Path) -> None:
    write_release(tmp_path / "r1", "r1", ["a", "b"])
    live = live_release(tmp_path / "r1", ItemVocabulary(), ["a", "b"])
    store = StateStore(UserStates(LAYOUT, DIMS, DIMS), ItemVocabulary(), ReleaseNumbers())
    for changes in (0, 1):
        live.index.rebuild()
        live.index.remove(np.arange(changes, dtype=np.int32))
        registry = CollectorRegistry()
        MetricsReporter(RankerMetrics(registry), batch_max=3).state(store, 0, live)
        assert registry.get_sample_value("anabranch_index_unfolded") == changes
