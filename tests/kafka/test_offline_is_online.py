"""An offline figure is an online figure: the same slates, through Kafka and without it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from msgspec import structs

from anabranch import messages
from anabranch.kafka.topics import Topics, key, vector_key
from anabranch.messages import Event, Item, ItemVector, Neighbours, RankedItem, encode
from anabranch.ranking.pipeline.feedback import NO_SLATE
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.vocabulary import ItemVocabulary
from anabranch.settings import Settings
from models.data.event_log import EventLog
from models.data.excluded_items import SlateRules
from models.offline.catalogue_history import CatalogueHistory, ItemVersion
from models.offline.offline_ranker import OfflineRanker, rank_events
from tests.kafka.world import ITEMS, Process, World, await_true, purchases
from tests.support.releases import live_release

NEIGHBOURS = [
    Neighbours(
        item_id=item,
        neighbours=[RankedItem(ITEMS[(number * 3 + 1) % len(ITEMS)], 0.5), RankedItem(ITEMS[number - 1], 0.25)],
        popularity=number / 1_000,
        first_seen=1_400_000_000_000 + number * 86_400_000,
        repeat_rate=(number % 10) / 10,
        ts=1,
    )
    for number, item in enumerate(ITEMS)
]
"""Every field tells items apart, so that one the ranker dropped would change a slate."""


def _table(item_ids: ItemVocabulary) -> CoVisitRows:
    table = CoVisitRows()
    for one in NEIGHBOURS:
        rows = item_ids.rows(near.item_id for near in one.neighbours)
        weights = np.array([near.score for near in one.neighbours], np.float32)
        table.set(item_ids.row(one.item_id), rows, weights, one.popularity, one.first_seen, one.repeat_rate)
    return table


LAYOUTS = {
    "of the defaults": {},
    "small": {"slate_size": 5, "history_length": 3, "own_items": 2},
    "large": {"slate_size": 40, "history_length": 200, "own_items": 300},
}
EVENTS = 300


def _events() -> list[Event]:
    """Purchases of five users; every ninth event is a search instead."""
    return [
        Event(event_id=one.event_id, user_id=one.user_id, type="search", ts=one.ts, query=f"red {number % 20}")
        if number % 9 == 4
        else one
        for number, one in enumerate(purchases(EVENTS))
    ]


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_a_replay_through_kafka_and_the_offline_run_publish_the_same_slates(
    settings: Settings, topics: Topics, layout: dict[str, Any]
) -> None:
    settings = structs.replace(settings, exclude_seen=True, **layout)
    world = World(settings)
    for row in NEIGHBOURS:
        world.send(topics.neighbours, key(row.item_id), encode(row))
    world.go_live("r1")
    events, item_ids = _events(), ItemVocabulary()
    live = live_release(settings.releases_dir / "r1", item_ids, ITEMS)
    rules = SlateRules.from_settings(settings, live.manifest.policy)
    offline = OfflineRanker(live, _table(item_ids), item_ids, rules.policy, rules.layout)
    shown = rank_events(offline, EventLog.from_events(events, ITEMS), start=0)
    with Process(settings, "rank", "--start", "earliest"):
        world.publish(events)
        online = {one.cause.event_id: one.slate for one in world.await_rankings(EVENTS)}

    for event, slate in zip(events, shown.slate, strict=True):
        assert [one.item_id for one in online[event.event_id]] == [item_ids.id(row) for row in slate if row >= 0]
    feedback = {one.event.event_id: one for one in world.feedback()}
    ranks = [feedback[event.event_id].rank or 0 for event in events if feedback[event.event_id].release is not None]
    assert ranks == shown.rank[shown.rank != NO_SLATE].tolist()
    assert 0 < max(ranks) <= settings.slate_size


def test_an_item_that_becomes_unavailable_is_shown_until_then_online_and_offline(
    settings: Settings, topics: Topics
) -> None:
    world = World(settings)
    world.go_live("r1")
    before, after, gone = purchases(60), purchases(60, first=60), ITEMS[7]
    with Process(settings, "rank", "--start", "earliest"):
        world.publish(before)
        [vector] = [
            message
            for record in world.records(topics.item_vectors)
            if isinstance(message := messages.item_vectors.decode(record.value), ItemVector) and message.item_id == gone
        ]
        world.await_rankings(60)
        world.send(topics.item_vectors, vector_key(gone, "r1"), encode(structs.replace(vector, available=False)))
        await_true(lambda: gone not in _probe(world), f"slates without {gone}")
        world.publish(after)
        await_true(lambda: len(_slates(world)) == 120, "all slates")
        online = _slates(world)

    item_ids = ItemVocabulary()
    live = live_release(settings.releases_dir / "r1", item_ids, ITEMS)
    rules = SlateRules.from_settings(settings, live.manifest.policy)
    item = Item(item_id=gone, title=gone)
    versions = [ItemVersion(1, gone, item), ItemVersion(after[0].ts, gone, structs.replace(item, available=False))]
    history = CatalogueHistory.from_versions(versions)
    changes = history.encoded(live, item_ids, live.text.encode(history.texts))
    offline = OfflineRanker(live, CoVisitRows(), item_ids, rules.policy, rules.layout, catalogue=changes)
    events = [*before, *after]
    shown = rank_events(offline, EventLog.from_events(events, ITEMS), start=0)
    for event, slate in zip(events, shown.slate, strict=True):
        assert online[event.event_id] == [item_ids.id(row) for row in slate if row >= 0]
    assert any(gone in online[event.event_id] for event in before)


def _slates(world: World) -> dict[str, list[str]]:
    """The slate after each event, but for probes."""
    return {
        one.cause.event_id: [item.item_id for item in one.slate] for one in world.rankings() if one.user_id != "probe"
    }


def _probe(world: World) -> set[str]:
    """The items of all slates that a user of no history gets now."""
    count = len(world.rankings())
    world.publish([Event(event_id=f"p{count}", user_id="probe", type="search", ts=1, query=ITEMS[7])])
    return {item.item_id for item in world.await_rankings(count + 1)[-1].slate}
