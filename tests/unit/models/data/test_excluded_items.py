from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anabranch.messages import EVENT_TYPES
from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.user_state.layout import StateLayout
from anabranch.ranking.vocabulary import ItemVocabulary
from models.data.event_log import NONE, EventColumns, EventLog
from models.data.excluded_items import SlateRules, excluded_after, excluded_items
from models.data.sequences import Sequences
from models.offline.offline_ranker import OfflineRanker, rank_events
from tests.support.layouts import LAYOUT
from tests.support.releases import live_release, write_release

ITEMS = tuple(f"item {number}" for number in range(40))
EVENTS = 500
ALL = LAYOUT._replace(slate=len(ITEMS))
"""Every item that is not excluded is on the slate."""
LAYOUTS = {
    "of the defaults": ALL,
    "small": ALL._replace(history=3, long_term_items=2),
    "large": ALL._replace(history=200, long_term_items=300),
}
POLICIES = {
    "the session": Policy(retrieval_k=40),
    "all": Policy(retrieval_k=40, exclude_seen=True),
    "nothing": Policy(retrieval_k=40, allow_session_repeats=True),
}


def log() -> EventLog:
    """Purchases and, for a tenth, searches, of seven users in sessions of ten minutes to an hour."""
    random = np.random.default_rng(0)
    item = np.where(random.random(EVENTS) < 0.1, NONE, random.integers(len(ITEMS), size=EVENTS))
    return EventLog.from_columns(
        EventColumns(
            user=random.integers(7, size=EVENTS),
            item=item,
            type=np.where(item == NONE, EVENT_TYPES.index("search"), EVENT_TYPES.index("purchase")),
            ts=np.cumsum(random.integers(600_000, size=EVENTS)),
            session=np.full(EVENTS, NONE),
            query=np.where(item == NONE, 0, NONE),
        ),
        user_ids=tuple("abcdefg"),
        item_ids=ITEMS,
        queries=("red",),
    )


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_excluded_is_what_no_slate_of_the_ranker_has(tmp_path: Path, policy: Policy, layout: StateLayout) -> None:
    write_release(tmp_path / "r1", item_ids=ITEMS)
    item_ids = ItemVocabulary()
    item_ids.rows(["of another shop", *reversed(ITEMS)])  # rows are not the log's numbers
    ranker = OfflineRanker(live_release(tmp_path / "r1", item_ids, ITEMS), CoVisitRows(), item_ids, policy, layout)
    events = log()
    slates = rank_events(ranker, events, 0).slate
    number = {int(row): index for index, row in enumerate(item_ids.rows(ITEMS).tolist())}
    rows = np.flatnonzero(np.arange(EVENTS) % 3 > 0)
    excluded = excluded_items(events, rows, ranker.rules)
    for point, previous in enumerate(events.previous()[rows].tolist()):
        shown = set() if previous < 0 else {number[row] for row in slates[previous].tolist() if row >= 0}
        expected = set() if previous < 0 else set(range(len(ITEMS))) - shown
        assert excluded.of_point(point) == expected
        assert {item for item in excluded.padded()[point].tolist() if item != NONE} == expected


def test_without_points_nothing_is_excluded() -> None:
    excluded = excluded_items(log(), np.empty(0, np.int64), SlateRules(Policy(), LAYOUT))
    assert excluded.padded().shape == (0, 0)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_sequences_of_users_exclude_what_the_log_of_all_does(policy: Policy, layout: StateLayout) -> None:
    """Of the visits alone, too: a session goes on while its user searches."""
    events, rules = log(), SlateRules(policy, layout)
    sequences = Sequences.with_searches(events)
    visits = sequences.only(sequences.has_item)
    by_user = np.lexsort((np.arange(EVENTS), events.user))[sequences.visit_row]
    of_log = excluded_after(events, by_user, rules)
    of_visits = excluded_after(visits, np.arange(len(visits)), rules)
    for point in range(len(visits)):
        assert of_visits.of_point(point) == of_log.of_point(point)
    some = np.array([3, 200, 40])
    assert [set(row.tolist()) - {NONE} for row in of_log.padded(some)] == [of_log.of_point(point) for point in some]
