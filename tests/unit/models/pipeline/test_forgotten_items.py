"""The operator hears of it if rankers forget what they must not show again."""

from __future__ import annotations

from anabranch.messages import Event
from anabranch.settings import Settings
from models.data.event_log import EventLog
from models.pipeline.forgotten_items import forgotten_items
from models.pipeline.presets import Kind, preset

REMEMBERED = 5


def events(per_user: int) -> EventLog:
    """Twenty users with so many events, each about another item."""
    return EventLog.from_events(
        Event(event_id=f"{user}-{step}", user_id=f"u{user}", item_id=f"i{step}", ts=1 + step, type="view")
        for user in range(20)
        for step in range(per_user)
    )


def line(per_user: int, kind: Kind = "long_histories") -> str | None:
    return forgotten_items(events(per_user), preset(kind).for_rankers(Settings(history_length=3, own_items=2)))


def test_what_to_set_is_said_once_users_have_more_items_than_rankers_remember() -> None:
    assert line(REMEMBERED) is None
    said = line(REMEMBERED + 4)
    assert said is not None
    assert "remember 5:" in said
    assert "own_items to 6 or more" in said


def test_nothing_is_said_where_users_are_shown_items_again_anyway() -> None:
    assert line(REMEMBERED + 4, "baskets") is None


def test_nothing_is_said_without_events() -> None:
    assert line(0) is None
