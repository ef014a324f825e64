from __future__ import annotations

from pathlib import Path

import numpy as np

from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.vocabulary import ItemVocabulary
from models.data.event_log import EventColumns, EventLog
from models.offline.offline_ranker import OfflineRanker
from models.offline.ranking_lists import ListSample, ranking_lists
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


def test_a_held_out_event_has_no_training_list(tmp_path: Path) -> None:
    write_release(tmp_path / "r1", item_ids=ITEMS)
    item_ids = ItemVocabulary()
    ranker = OfflineRanker(live_release(tmp_path / "r1", item_ids, ITEMS), CoVisitRows(4), item_ids, ALL, LAYOUT)

    def made(*held_out: int) -> int:
        rows = np.array(held_out, np.int64)
        return len(ranking_lists(ranker, log(), ListSample(START, rows, lists=10_000, random_seed=0)))

    assert made() == EVENTS - START
    assert made(START, START + 7, EVENTS - 1) == EVENTS - START - 3
    assert made(START - 1) == EVENTS - START, "that event is before the window, so no list is made for it anyway"
