"""Which items count as new, and which of them a user is proposed."""

from __future__ import annotations

import numpy as np
import pytest

from anabranch.co_visit.table import neighbour_messages
from anabranch.co_visit_rule import CoVisitRule
from anabranch.messages import Event
from anabranch.ranking.retrieval import new_items
from anabranch.ranking.retrieval.co_visit_row import co_visit_row
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.retrieval.item_index import ItemIndex
from anabranch.ranking.retrieval.new_items import nearest_new_items
from anabranch.ranking.types import Mask
from anabranch.ranking.vocabulary import ItemVocabulary
from models.co_visit.model import CoVisitModel
from models.data.event_log import EventLog

NO_ITEMS, NO_WEIGHTS = np.empty(0, np.int32), np.empty(0, np.float32)
TOWARDS_FIRST, TOWARDS_LAST = [1.0, 0.0], [-1.0, 0.0]


def index_of(available: Mask) -> ItemIndex:
    """Items on a line: the lower its number, the farther an item lies in the direction of the first axis."""
    items = len(available)
    index = ItemIndex(2)
    vectors = np.stack([np.linspace(1, -1, items), np.zeros(items)], axis=1).astype(np.float32)
    index.upsert(np.arange(items, dtype=np.int32), vectors, available)
    return index


def had_events(*items: int) -> CoVisitRows:
    table = CoVisitRows(max_width=1)
    for item in items:
        table.set(item, NO_ITEMS, NO_WEIGHTS, 0.1, first_seen=0, repeat_rate=0.2)
    return table


def nearest(index: ItemIndex, table: CoVisitRows, k: int) -> list[list[int]]:
    return nearest_new_items(index, table, np.array([TOWARDS_FIRST, TOWARDS_LAST], np.float32), k).tolist()


def test_new_items_are_those_that_can_be_served_and_whose_popularity_is_not_published() -> None:
    index, table = index_of(np.arange(10) != 2), had_events(0, 8, 9)
    assert nearest(index, table, 3) == [[1, 3, 4], [7, 6, 5]]
    table.remove(9)
    assert nearest(index, table, 1) == [[1], [9]], "what has no event any more is new again"


def test_an_item_that_fewer_users_visited_than_are_published_is_still_new() -> None:
    """Its row says on which day it was first visited, and no more."""
    catalogue = [f"i{n}" for n in range(4)]
    rule, item_ids, table = CoVisitRule(min_users=2), ItemVocabulary(), CoVisitRows(max_width=2)
    rows = item_ids.rows(catalogue)
    visits = [("ann", "i0"), ("bob", "i0"), ("ann", "i1"), ("bob", "i1"), ("ann", "i2")]
    events = [
        Event(event_id=f"e{n}", user_id=user, type="view", item_id=item, ts=n + 1)
        for n, (user, item) in enumerate(visits)
    ]
    published = CoVisitModel(rule).fit(EventLog.from_events(events)).table(2)
    for message in neighbour_messages(published, ["i0", "i1", "i2"], 0):
        row = co_visit_row(message.item_id, message, item_ids)
        assert row is not None and message.first_seen >= 0
        row.apply(table)
    proposed = nearest_new_items(index_of(np.ones(4, np.bool_)), table, np.array([TOWARDS_FIRST], np.float32), 4)
    assert proposed.tolist() == [rows[2:].tolist()]


def test_an_item_is_new_from_its_upsert_until_its_popularity_is_published() -> None:
    index, table = index_of(np.ones(4, np.bool_)), had_events(0, 1, 2, 3)
    assert nearest(index, table, 5) == [[], []]
    index.upsert(np.array([4], np.int32), np.array([[0.0, 1.0]], np.float32), np.ones(1, np.bool_))
    assert nearest(index, table, 5) == [[4], [4]]
    table.set(4, NO_ITEMS, NO_WEIGHTS, 0.1, first_seen=0, repeat_rate=0.2)
    assert nearest(index, table, 5) == [[], []]


def test_of_many_new_items_those_named_last_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_items, "MOST_COMPARED", 3)
    assert nearest(index_of(np.ones(10, np.bool_)), had_events(9), 2) == [[6, 7], [8, 7]]


def test_where_none_are_wanted_none_are_proposed() -> None:
    assert nearest(index_of(np.ones(10, np.bool_)), had_events(), 0) == [[], []]
