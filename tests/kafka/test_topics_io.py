"""What the retraining job reads from a broker."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
import pytest

from anabranch.kafka.topics import Topics, key
from anabranch.messages import Event, Feedback, encode
from anabranch.settings import Settings
from models.data.event_store import EventStore
from models.retraining import topics_io
from tests.kafka.world import World, purchases

FUTURE_MS = 4_000_000_000_000


def as_event(event: Event) -> bytes:
    return encode(event)


def as_feedback(event: Event) -> bytes:
    return encode(Feedback(event=event, partition=0, offset=int(event.event_id.removeprefix("e"))))


@pytest.mark.parametrize(("released", "write"), [(False, as_event), (True, as_feedback)], ids=["events", "feedback"])
def test_an_event_from_the_future_is_learned_as_of_now_and_what_cannot_be_read_not_at_all(
    settings: Settings, topics: Topics, released: bool, write: Callable[[Event], bytes]
) -> None:
    world = World(settings)
    topic = topics.feedback if released else topics.events
    past, future = purchases(2, users=1)
    for value in (write(past), write(msgspec.structs.replace(future, ts=FUTURE_MS)), b"junk", None):
        world.send(topic, key("u0"), value)
    event_store = EventStore.open(settings.data_dir / "journal")

    assert topics_io.collect(settings, event_store, released, lambda n: None) == 2

    first, last = event_store.log().ts.tolist()
    assert first == past.ts
    assert past.ts < last <= time.time() * 1000
