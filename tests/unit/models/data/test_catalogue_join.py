from __future__ import annotations

import pytest

from anabranch.messages import Event
from models.data.catalogue_join import join_catalogue
from models.data.event_log import EventLog, NotEnoughData


def log_of(*item_ids: str) -> EventLog:
    return EventLog.from_events(
        Event(event_id=str(ts), user_id="u", type="view", item_id=item_id, ts=ts) for ts, item_id in enumerate(item_ids)
    )


def test_events_about_other_items_are_dropped_and_the_rest_numbered_by_the_catalogue() -> None:
    joined = join_catalogue(log_of("b", "x", "a"), ["a", "b"])
    assert joined.item.tolist() == [1, 0]
    assert joined.ts.tolist() == [0, 2]


def test_ids_that_never_join_are_shown() -> None:
    with pytest.raises(NotEnoughData) as raised:
        join_catalogue(log_of("7.0", "8.0", "9.0", "10.0", "7.0"), ["7", "8"])
    assert str(raised.value) == (
        "none of the 5 events is about an item of the catalogue. The events have '7.0', '8.0', '9.0', …, the catalogue "
        "has '7', '8': write the ids of both in the same way"
    )


def test_an_empty_catalogue_and_events_without_items_are_named() -> None:
    with pytest.raises(NotEnoughData, match="the catalogue has no items: publish them with `anabranch catalogue`"):
        join_catalogue(log_of("a"), [])
    searches = EventLog.from_events([Event(event_id="e", user_id="u", type="search", query="soup", ts=1)])
    with pytest.raises(NotEnoughData, match=r"none of the 1 events .* The events have no item ids"):
        join_catalogue(searches, ["a"])
