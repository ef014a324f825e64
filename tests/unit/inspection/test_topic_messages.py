from __future__ import annotations

from typing import Any

import pytest

from anabranch.errors import UsageError
from anabranch.inspection.topic_messages import TopicMessage, topic_name
from anabranch.messages import Cause, Event, Feedback, RankedItem, Ranking

EVENT = Event(event_id="e1", user_id="u", type="view", ts=1_500_000_000_000, item_id="i")
RANKING = Ranking(
    user_id="u",
    release="r",
    cause=Cause(event_id="e1", partition=0, offset=3, ts=EVENT.ts),
    slate=[RankedItem("i", 1.0)],
    ts=EVENT.ts,
)


def message(content: Any) -> TopicMessage:
    return TopicMessage(topic="events", partition=0, offset=3, timestamp=EVENT.ts, key="u", headers={}, message=content)


@pytest.mark.parametrize(
    "content",
    [EVENT, RANKING, Feedback(event=EVENT, partition=0, offset=3), '{"event_id": "e1", "user_id": 5}'],
    ids=["event", "ranking", "feedback", "dead letter"],
)
def test_a_message_about_an_event_is_recognised(content: Any) -> None:
    assert message(content).is_about("e1")
    assert not message(content).is_about("e2")


@pytest.mark.parametrize("content", [None, {"invalid": "no type", "payload": '"e1"'}], ids=["tombstone", "invalid"])
def test_a_tombstone_and_an_invalid_message_are_about_no_event(content: Any) -> None:
    assert not message(content).is_about("e1")


def test_an_unknown_topic_is_an_error_that_lists_the_topics() -> None:
    assert topic_name("rankings") == "rankings"
    with pytest.raises(UsageError, match="ranking is not a topic; the topics are events, identities, items"):
        topic_name("ranking")
