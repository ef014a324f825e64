"""Every form of events that `anabranch collect` takes, through a real broker."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from anabranch import messages
from anabranch.http import api_keys, key_file
from anabranch.kafka.topics import Topics
from anabranch.messages import Event, Identity
from anabranch.settings import Settings
from tests.kafka.collector_client import ANY_PORT, Client
from tests.kafka.world import Process, Scrape, World, await_true

SEGMENT_ORDER = {
    "type": "track",
    "event": "Order Completed",
    "userId": "u1",
    "messageId": "m1",
    "timestamp": "2026-01-01T00:00:00Z",
    "properties": {"order_id": "o1", "products": [{"sku": "i1", "quantity": 2, "price": 1.5}, {"sku": "i2"}]},
}
SEGMENT_IDENTIFY = {"type": "identify", "userId": "u1", "anonymousId": "a1", "timestamp": "2026-01-01T00:00:00Z"}
GA4_VIEW = {
    "client_id": "c1",
    "user_id": "u2",
    "timestamp_micros": 1_767_225_600_000_000,
    "events": [{"name": "view_item", "params": {"items": [{"item_id": "i3"}]}}],
}


@pytest.fixture
def world(settings: Settings, topics: Topics) -> World:
    return World(msgspec.structs.replace(settings, collect_item_key="sku,item_id"))


@pytest.fixture
def collector(world: World) -> Iterator[Process]:
    with Process(world.settings, "collect", *ANY_PORT) as process:
        yield process
        assert process.terminate() == 0


def published(world: World) -> list[Event]:
    records = world.records(world.topics.events)
    events = [messages.events.decode(record.value) for record in records]
    assert [record.key.decode() for record in records] == [event.user_id for event in events]
    return events


def identities(world: World) -> dict[str, Identity]:
    return {
        record.key.decode(): messages.identities.decode(record.value)
        for record in world.records(world.topics.identities)
    }


def test_an_order_and_an_identity_of_segment_arrive(world: World, collector: Process) -> None:
    status, body = Client(collector).post("/v1/batch", {"batch": [SEGMENT_ORDER, SEGMENT_IDENTIFY]})
    assert (status, json.loads(body)["success"], json.loads(body)["taken"]) == (200, True, 2)
    first, second = published(world)
    assert first == Event(
        event_id="m1#0",
        user_id="u1",
        type="purchase",
        ts=1_767_225_600_000,
        item_id="i1",
        quantity=2,
        price=1.5,
        order_id="o1",
    )
    assert (second.event_id, second.item_id, second.order_id) == ("m1#1", "i2", "o1")
    assert identities(world) == {"a1": Identity(user_id="u1", ts=1_767_225_600_000)}
    scraped = Scrape.of(collector)
    assert scraped.value("anabranch_collect_events_taken_total") == 2
    assert scraped.value("anabranch_collect_identities_total") == 1


def test_a_request_of_ga4_arrives_and_one_that_is_only_checked_does_not(world: World, collector: Process) -> None:
    client = Client(collector)
    assert client.post("/mp/collect?measurement_id=G-1&api_secret=any", GA4_VIEW) == (204, b"")
    assert client.post("/debug/mp/collect", GA4_VIEW) == (200, b'{"validationMessages":[]}')
    [event] = published(world)
    assert (event.user_id, event.type, event.item_id, event.ts) == ("u2", "view", "i3", 1_767_225_600_000)
    assert identities(world) == {"c1": Identity(user_id="u2", ts=1_767_225_600_000)}


def test_a_compressed_body_arrives(world: World, collector: Process) -> None:
    body = gzip.compress(json.dumps({"batch": [SEGMENT_ORDER]}).encode())
    status, _ = Client(collector).post("/v1/batch", body, {"Content-Encoding": "gzip"})
    assert (status, len(published(world))) == (200, 2)


def test_events_of_the_shops_own_types_arrive_as_ours_in_every_form(world: World) -> None:
    settings = msgspec.structs.replace(world.settings, event_types={"wishlist": "like"})
    own = {"event_id": "e1", "user_id": "u1", "type": "Wishlist", "ts": 1, "item_id": "i1"}
    call = {"event": "wishlist", "userId": "u1", "messageId": "m1", "properties": {"sku": "i2"}}
    ga4 = GA4_VIEW | {"events": [{"name": "wishlist", "params": {"item_id": "i3"}}], "user_id": "u1"}
    with Process(settings, "collect", *ANY_PORT) as process:
        client = Client(process)
        assert client.send([own])[0] == 202
        assert client.post("/v1/track", call)[0] == 200
        assert client.post("/mp/collect", ga4)[0] == 204
    assert [(event.type, event.item_id) for event in published(world)] == [
        ("like", "i1"),
        ("like", "i2"),
        ("like", "i3"),
    ]


def test_a_write_key_in_the_body_lets_in_and_is_in_no_record_and_no_log(world: World, tmp_path: Path) -> None:
    text, key = api_keys.create("shop", ["events:write"])
    key_file.add(tmp_path / "keys.json", key)
    settings = msgspec.structs.replace(world.settings, api_keys_file=tmp_path / "keys.json")
    with Process(settings, "collect", *ANY_PORT) as process:
        client = Client(process)
        status, _ = client.post("/v1/batch", {"batch": [SEGMENT_ORDER | {"writeKey": text}], "writeKey": text})
        assert status == 200
        assert client.post("/v1/batch", {"batch": [SEGMENT_ORDER], "writeKey": text[:-1]})[0] == 401
    records = world.records(world.topics.events)
    assert len(records) == 2 and not any(text.encode() in record.value for record in records)
    assert text[:-1] not in process.log.read_text()


def test_a_key_beyond_its_rate_waits_and_its_events_arrive_then(world: World, tmp_path: Path) -> None:
    text, key = api_keys.create("shop", ["events:write"])
    key_file.add(tmp_path / "keys.json", key)
    settings = msgspec.structs.replace(
        world.settings, api_keys_file=tmp_path / "keys.json", collect_key_events_per_s=1.0
    )
    with Process(settings, "collect", *ANY_PORT) as process:
        client = Client(process, text)
        order = SEGMENT_ORDER | {"properties": {"products": [{"sku": "i1"}] * 12}}
        assert client.post("/v1/track", order)[0] == 200
        assert client.post("/mp/collect", GA4_VIEW)[0] == 429, "all forms count together"
        await_true(lambda: client.post("/mp/collect", GA4_VIEW)[0] == 204, "the end of the wait", process.log)
    assert [event.item_id for event in published(world) if event.user_id == "u2"] == ["i3"]
