from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.user_state.session import SESSION_GAP_MS
from anabranch.ranking.vocabulary import ItemVocabulary
from models.data.event_log import EventColumns, EventLog
from models.evaluation.slices import repeats
from models.offline.candidate_coverage import CandidateCoverage, ProposedItems, SourceCoverage
from models.offline.offline_ranker import OfflineRanker
from models.offline.ranking_lists import ListSample, candidates_before, ranking_lists
from tests.support.layouts import LAYOUT
from tests.support.releases import live_release, write_release

ITEMS = [f"item {number}" for number in range(12)]
EVENTS, START = 120, 60
ALL = Policy(retrieval_k=len(ITEMS), allow_session_repeats=True)
"""Every item is a candidate, so the next item is always on the list."""


def log() -> EventLog:
    random = np.random.default_rng(0)
    return EventLog.from_columns(
        EventColumns(
            random.integers(6, size=EVENTS),
            random.integers(len(ITEMS), size=EVENTS),
            np.zeros(EVENTS, np.int64),
            np.arange(EVENTS) * 60_000,
            np.full(EVENTS, -1),
        ),
        user_ids=tuple("abcdef"),
        item_ids=tuple(ITEMS),
    )


@pytest.fixture(scope="module")
def ranker(tmp_path_factory: pytest.TempPathFactory) -> OfflineRanker:
    """Milk is a neighbour of every other item, and there are no others."""
    folder = tmp_path_factory.mktemp("releases") / "r1"
    write_release(folder, item_ids=ITEMS)
    item_ids = ItemVocabulary()
    live = live_release(folder, item_ids, ITEMS)
    milk, co_visits = item_ids.rows(ITEMS[:1]), CoVisitRows(4)
    for row in item_ids.rows(ITEMS[1:]).tolist():
        co_visits.set(row, milk, np.ones(1, np.float32), 0.1, 0, 0.5)
    return OfflineRanker(live, co_visits, item_ids, ALL, LAYOUT)


def test_a_held_out_event_has_no_training_list(ranker: OfflineRanker) -> None:
    def made(*held_out: int) -> int:
        rows = np.array(held_out, np.int64)
        return len(ranking_lists(ranker, log(), ListSample(START, rows, lists=10_000, random_seed=0)).lists)

    assert made() == EVENTS - START
    assert made(START, START + 7, EVENTS - 1) == EVENTS - START - 3
    assert made(START - 1) == EVENTS - START, "that event is before the window, so no list is made for it anyway"


def test_lists_know_whether_their_event_begins_a_session(ranker: OfflineRanker) -> None:
    def begun(events: EventLog) -> int:
        sample = ListSample(START, np.empty(0, np.int64), lists=10_000, random_seed=0)
        return int(ranking_lists(ranker, events, sample).lists.begins_session.sum())

    two_hours_later = np.arange(EVENTS) >= 90
    longest_pause = max(np.diff(log().ts[log().user == user]).max() for user in range(6))
    assert longest_pause <= SESSION_GAP_MS
    assert begun(log()) == 0
    assert begun(replace(log(), ts=log().ts + 7_200_000 * two_hours_later)) == 6, "each user comes back once"
    assert begun(replace(log(), session=two_hours_later.astype(np.int64))) == 6, "by the ids of the sessions"


def coverage(ranker: OfflineRanker, retrieval_k: int, recent: int = 10) -> CandidateCoverage:
    """Of every event from `START` on."""
    ranker = replace(ranker, policy=replace(ALL, retrieval_k=retrieval_k, recent=recent))
    nothing = np.empty(0, np.int64)
    return ranking_lists(ranker, log(), ListSample(START, nothing, lists=10_000, random_seed=0)).proposed.coverage()


def test_coverage_tells_what_each_source_brings(ranker: OfflineRanker) -> None:
    events, repeat = log(), repeats(log())[START:]
    milk = events.item[START:] == 0
    without_index = coverage(ranker, retrieval_k=0)
    assert without_index.events == EVENTS - START
    assert without_index.sources["index"] == SourceCoverage(share=0, alone=0)
    assert without_index.sources["own_events"].share == repeat.mean() > 0
    assert without_index.sources["own_events"].alone == (repeat & ~milk).mean() > 0
    assert without_index.sources["co_visits"] == SourceCoverage(share=milk.mean(), alone=(milk & ~repeat).mean())
    assert without_index.share == (repeat | milk).mean()


def test_the_index_covers_what_no_other_source_does(ranker: OfflineRanker) -> None:
    repeat = repeats(log())[START:]
    complete = coverage(ranker, retrieval_k=len(ITEMS), recent=0)
    assert complete.share == complete.sources["index"].share == 1
    assert complete.sources["index"].alone == 1 - repeat.mean()
    assert complete.candidates == len(ITEMS)


def test_candidates_before_events_are_those_of_their_lists(ranker: OfflineRanker) -> None:
    rows = np.arange(START, EVENTS)
    batches = list(candidates_before(ranker, log(), START, rows))
    assert np.sort(rows[np.concatenate([event for event, _ in batches])]).tolist() == rows.tolist()
    item = ranker.item_ids.rows(ITEMS)[log().item[rows]]
    proposed = ProposedItems.concatenate(
        [ProposedItems.of_queries(batch.candidates, item[event]) for event, batch in batches]
    )
    assert proposed.coverage() == coverage(ranker, retrieval_k=len(ITEMS))
