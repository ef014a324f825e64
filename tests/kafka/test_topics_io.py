"""What the retraining job reads from a broker."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient

from anabranch.kafka.topics import Topics, key
from anabranch.messages import Event, Feedback, Item, encode
from anabranch.settings import Settings
from models.data.event_store import EventStore
from models.offline.catalogue_history import ItemVersion
from models.retraining import topics_io
from tests.kafka.world import World, purchases

FUTURE_MS = 4_000_000_000_000


def as_event(event: Event) -> bytes:
    return encode(event)


def as_feedback(event: Event, partition: int = 0) -> bytes:
    """The feedback on an event whose offset is the number in its id."""
    return encode(Feedback(event=event, partition=partition, offset=int(event.event_id.removeprefix("e"))))


@pytest.mark.parametrize(("ranked", "write"), [(False, as_event), (True, as_feedback)], ids=["events", "feedback"])
def test_an_event_from_the_future_is_learned_as_of_now_and_what_cannot_be_read_not_at_all(
    settings: Settings, topics: Topics, ranked: bool, write: Callable[[Event], bytes]
) -> None:
    world = World(settings)
    topic = topics.feedback if ranked else topics.events
    past, future = purchases(2, users=1)
    for value in (write(past), write(msgspec.structs.replace(future, ts=FUTURE_MS)), b"junk", None):
        world.send(topic, key("u0"), value)
    event_store = EventStore.open(settings.data_dir / "journal")

    assert topics_io.collect(settings, event_store, lambda n: None).events == 2

    first, last = event_store.log().ts.tolist()
    assert first == past.ts
    assert past.ts < last <= time.time() * 1000


def test_events_that_nothing_ranked_are_learned_from_the_events_and_the_others_once_from_their_feedback(
    settings: Settings, topics: Topics
) -> None:
    world, store = World(settings), EventStore.open(settings.data_dir / "journal")

    def collect() -> int:
        return topics_io.collect(settings, store, lambda n: None).events

    def rank(*events: Event) -> None:
        (partition,) = {record.partition for record in world.records(topics.events)}
        for event in events:
            world.send(topics.feedback, key("u0"), as_feedback(event, partition))

    e0, e1, e2, e3, e4, e5 = purchases(6, users=1)
    for event in (e0, e1):
        world.send(topics.events, key("u0"), as_event(event))
    assert collect() == 2, "nothing ranks yet"
    for event in (e2, e3, e4, e5):
        world.send(topics.events, key("u0"), as_event(event))
    rank(e3, e4)  # the ranker began behind e2
    assert collect() == 3
    rank(e5)
    assert collect() == 1
    assert collect() == 0
    assert store.log().ts.tolist() == [event.ts for event in (e0, e1, e2, e3, e4, e5)]


def test_events_that_retention_deletes_after_they_were_ranked_are_not_missed_but_their_feedback_is(
    settings: Settings, topics: Topics, admin: KafkaAdminClient
) -> None:
    def rank(*events: Event) -> None:
        for event in events:
            world.send(topics.events, key("u0"), as_event(event))
        partition = max(world.records(topics.events), key=lambda record: record.offset).partition
        for event in events:
            world.send(topics.feedback, key("u0"), as_feedback(event, partition))

    def delete_before(topic: str, offset: int) -> None:
        (partition,) = {record.partition for record in world.records(topic)}
        admin.delete_records({TopicPartition(topic, partition): offset})

    world, store = World(settings), EventStore.open(settings.data_dir / "journal")
    events = purchases(8, users=1)
    rank(*events[:4])
    assert topics_io.collect(settings, store, lambda n: None) == topics_io.Collected(events=4, missed=0)
    rank(*events[4:6])
    delete_before(topics.events, 6)
    assert topics_io.collect(settings, store, lambda n: None) == topics_io.Collected(events=2, missed=0)
    rank(*events[6:])
    delete_before(topics.feedback, 7)
    assert topics_io.collect(settings, store, lambda n: None) == topics_io.Collected(events=1, missed=1)
    assert topics_io.collect(settings, store, lambda n: None) == topics_io.Collected(events=0, missed=0)
    assert store.log().ts.tolist() == [event.ts for number, event in enumerate(events) if number != 6]


def test_the_probability_with_which_an_items_event_was_shown_is_learned_from_its_feedback(
    settings: Settings, topics: Topics
) -> None:
    world, store = World(settings), EventStore.open(settings.data_dir / "journal")
    at_explored_place, at_another, not_shown = purchases(3, users=1)
    for number, (event, propensity) in enumerate(((at_explored_place, 0.04), (at_another, 1.0), (not_shown, None))):
        joined = Feedback(event=event, partition=0, offset=number, release="r1", slate_size=20, propensity=propensity)
        world.send(topics.feedback, key("u0"), encode(joined))
    assert topics_io.collect(settings, store, lambda n: None).events == 3
    np.testing.assert_array_equal(EventStore.open(store.folder).propensities(), [0.04, 1.0, np.nan])


def test_impressions_are_read_and_not_learned_from(settings: Settings, topics: Topics) -> None:
    world, store = World(settings), EventStore.open(settings.data_dir / "journal")
    first, second, third = purchases(3, users=1)
    shown = Event(event_id="i", user_id="u0", type="impression", ts=second.ts, shown=("a", "b"))
    for event in (first, shown):
        world.send(topics.events, key("u0"), encode(event))
    assert topics_io.collect(settings, store, lambda n: None).events == 1
    (partition,) = {record.partition for record in world.records(topics.events)}
    for offset, event in enumerate((shown, third), start=2):
        world.send(topics.events, key("u0"), encode(event))
        joined = Feedback(event=event, partition=partition, offset=offset, release="r1", slate_size=20)
        world.send(topics.feedback, key("u0"), encode(joined))
    assert topics_io.collect(settings, store, lambda n: None).events == 1
    assert topics_io.collect(settings, store, lambda n: None).events == 0
    assert store.log().ts.tolist() == [first.ts, third.ts]


def test_every_version_of_an_item_that_the_topic_has_is_read_with_its_time(settings: Settings, topics: Topics) -> None:
    world, begun = World(settings), int(time.time() * 1000)
    milk = Item(item_id="milk", title="milk")
    for item in (milk, msgspec.structs.replace(milk, available=False), Item(item_id="soup", title="soup")):
        world.send(topics.items, key(item.item_id), encode(item))
    world.send(topics.items, key("soup"), None)
    world.send(topics.items, key("bread"), b"junk")
    by_item: dict[str, list[ItemVersion]] = {}
    for version in topics_io.read_item_versions(settings):
        by_item.setdefault(version.item_id, []).append(version)
    assert [one.item and one.item.available for one in by_item["milk"]] == [True, False]
    assert [one.item and one.item.title for one in by_item["soup"]] == ["soup", None]
    assert [one.item for one in by_item["bread"]] == [None], "what cannot be read is no item"
    times = [one.ts for versions in by_item.values() for one in versions]
    assert begun <= min(times) <= max(times) <= time.time() * 1000
