from __future__ import annotations

import numpy as np
import pytest

from models.data.event_log import DAY_MS, NONE, EventColumns, EventLog
from models.data.unusual_users import MIN_EVENTS, MIN_ITEMS, unusual_users


def log_of(*activity: tuple[int, int, int, int]) -> EventLog:
    """(user, day, events, different items): the events of each user on a day."""
    rows = [
        (user, event % items, 2, day * DAY_MS + event % DAY_MS, NONE)
        for user, day, events, items in activity
        for event in range(events)
    ]
    columns = EventColumns(*np.array(rows, np.int64).reshape(-1, 5).T)
    return EventLog.from_columns(columns, user_ids=("u",) * 2000, item_ids=("i",) * 5000)


PEOPLE = [(user, user % 7, 20 + user % 10, 5) for user in range(1, 200)]


def test_a_user_with_far_more_events_a_day_than_others_is_unusual() -> None:
    assert unusual_users(log_of(*PEOPLE, (0, 3, MIN_EVENTS + 1, 5))) == {0}


def test_a_user_with_far_more_items_a_day_than_others_is_unusual() -> None:
    assert unusual_users(log_of(*PEOPLE, (0, 3, MIN_ITEMS + 1, MIN_ITEMS + 1))) == {0}


def test_much_activity_over_many_days_is_usual() -> None:
    assert unusual_users(log_of(*PEOPLE, *((0, day, MIN_EVENTS, MIN_ITEMS) for day in range(20)))) == frozenset()


def test_where_everybody_is_busy_nobody_is_unusual() -> None:
    assert unusual_users(log_of(*((user, 0, 600, 300) for user in range(20)), (20, 0, 3000, 600))) == frozenset()


@pytest.mark.parametrize("events", [1, MIN_EVENTS])
def test_nobody_is_unusual_in_small_data(events: int) -> None:
    assert unusual_users(log_of((0, 0, events, 1), (1, 0, 1, 1))) == frozenset()


def test_a_log_without_events_has_no_unusual_users() -> None:
    assert unusual_users(log_of()) == frozenset()
