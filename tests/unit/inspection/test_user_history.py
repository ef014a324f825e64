from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from anabranch.inspection import user_history
from anabranch.inspection.topic_messages import TopicMessage
from anabranch.inspection.user_history import InspectedUser
from anabranch.messages import Event
from anabranch.placements import Placement, Rotation
from anabranch.settings import Settings

START_MS = 1_500_000_000_000


def view(offset: int, item_id: str, user_id: str = "u") -> TopicMessage:
    return on_events(offset, user_id, type="view", item_id=item_id)


def impression(offset: int, *shown: str) -> TopicMessage:
    return on_events(offset, "u", type="impression", shown=shown)


def on_events(offset: int, user_id: str, **fields: Any) -> TopicMessage:
    ts = START_MS + 1_000 * offset
    event = Event(event_id=f"e{offset}", user_id=user_id, ts=ts, **fields)
    return TopicMessage(
        topic="events", partition=0, offset=offset, timestamp=ts, key=user_id, headers={}, message=event
    )


def ranking(offset: int) -> TopicMessage:
    return TopicMessage(
        topic="rankings", partition=0, offset=offset, timestamp=START_MS, key="u", headers={}, message=None
    )


@pytest.fixture
def topics(monkeypatch: pytest.MonkeyPatch) -> None:
    def read_messages(settings: Settings, names: Sequence[str]) -> Iterator[TopicMessage]:
        yield from (view(0, "a"), view(1, "x", "another user"), view(2, "b"), view(3, "a"))
        yield from (impression(4, "b", "c"), impression(5, "c"), view(6, "b"))
        yield on_events(7, "u", type="dislike", item_id="d")
        yield from (ranking(0), ranking(1), ranking(2))

    monkeypatch.setattr(user_history, "read_messages", read_messages)


def read(**changes: Any) -> InspectedUser:
    return InspectedUser.read(Settings(), "u", 2, lambda partition, offset: offset == changes.get("dead_letter"))


@pytest.mark.usefixtures("topics")
def test_a_users_state_is_rebuilt_from_the_users_events_alone() -> None:
    state = read().state(Settings())
    assert state["events"] == 7
    assert state["disliked"] == ["d"]
    assert state["history"] == ["b", "a", "b", "a"]
    assert state["own_items"] == {"a": 2, "b": 2}
    assert state["newest_ts"] == START_MS + 7_000
    assert state["shown_and_not_taken"] == {}, "nothing is kept of impressions without a rotation"


@pytest.mark.usefixtures("topics")
def test_what_was_shown_and_not_taken_is_part_of_the_state_where_a_placement_rotates() -> None:
    rotating = Settings(placements=(Placement(name="for_you", rotation=Rotation()),))
    assert read().state(rotating)["shown_and_not_taken"] == {"c": {"times": 2, "newest_ts": START_MS + 5_000}}


@pytest.mark.usefixtures("topics")
def test_a_dead_letter_is_no_part_of_the_state() -> None:
    assert read(dead_letter=2).state(Settings())["history"] == ["b", "a", "a"]


@pytest.mark.usefixtures("topics")
def test_the_newest_rankings_are_kept() -> None:
    assert [message.offset for message in read().rankings] == [1, 2]
