from __future__ import annotations

import numpy as np
import pytest

from anabranch.messages import Event
from models.data.event_log import NONE, EventLog


def purchase(event_id: str, user: str, item: str, ts: int, session: str | None = None) -> Event:
    return Event(event_id=event_id, user_id=user, type="purchase", item_id=item, ts=ts, session_id=session)


EVENTS = [
    purchase("1", "ann", "soup", 30, "b"),
    purchase("2", "bob", "milk", 10, "b"),
    Event(event_id="3", user_id="ann", type="search", query="bread", ts=20),
    purchase("4", "ann", "milk", 30, "b"),
]


def test_a_log_is_in_time_order_and_ties_keep_their_order() -> None:
    log = EventLog.from_events(EVENTS)
    assert log.ts.tolist() == [10, 20, 30, 30]
    assert [log.item_ids[item] for item in log.item if item != NONE] == ["milk", "soup", "milk"]


def test_previous_is_the_row_of_the_users_event_before() -> None:
    bob, search, ann, ann_again = EventLog.from_events(EVENTS).previous().tolist()
    assert (bob, search) == (-1, -1)
    assert (ann, ann_again) == (1, 2)


def test_one_session_id_of_two_users_is_two_sessions() -> None:
    log = EventLog.from_events(EVENTS)
    bob, search, ann, ann_again = log.session
    assert ann == ann_again != bob
    assert search == NONE


def test_known_items_keep_their_numbers() -> None:
    log = EventLog.from_events(EVENTS, item_ids=["bread", "milk"])
    assert log.item_ids == ("bread", "milk", "soup")


def test_a_slice_shares_its_numbers_with_the_log() -> None:
    log = EventLog.from_events(EVENTS)
    before, after = log.split(20)
    assert len(before) == 1
    assert len(after) == 3
    assert after.user_ids is log.user_ids
    np.testing.assert_array_equal(after.item, log.item[1:])
    assert len(log.between(10, 30)) == 2
    assert log.last(1).ts.tolist() == [30]


def test_a_log_can_be_empty() -> None:
    log = EventLog.from_events([])
    assert len(log) == 0
    with pytest.raises(ValueError, match="no times"):
        log.time_at(0.5)


def test_searches_stay_in_a_log_of_other_item_numbers_and_events_about_unlisted_items_do_not() -> None:
    log = EventLog.from_events(EVENTS).renumbered(["milk"])
    assert log.item.tolist() == [0, NONE, 0]
    assert [log.queries[query] for query in log.query.tolist() if query != NONE] == ["bread"]
    assert log.with_items().item.tolist() == [0, 0]


def test_parts_of_a_log_are_joined_with_their_queries() -> None:
    before, after = EventLog.from_events(EVENTS).split(30)
    assert before.followed_by(after).query.tolist() == [NONE, 0, NONE, NONE]


def test_impressions_are_left_out_for_they_tell_what_the_shop_did() -> None:
    impression = Event(event_id="5", user_id="cat", type="impression", ts=40, shown=("beer",))
    log, without = EventLog.from_events([impression, *EVENTS]), EventLog.from_events(EVENTS)
    assert log.ts.tolist() == without.ts.tolist()
    assert (log.user_ids, log.item_ids) == (without.user_ids, without.item_ids)
