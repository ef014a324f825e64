"""Malformed records on a real broker: none of them stops a process or is lost."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import msgspec
import pytest
from kafka.consumer.fetcher import ConsumerRecord

from anabranch import messages
from anabranch.codec import NESTING
from anabranch.kafka import clients
from anabranch.kafka.headers import HeaderName
from anabranch.kafka.poll_bounds import PollBudget
from anabranch.kafka.records import batch_bytes
from anabranch.kafka.topics import Topics, key, largest_record_bytes, vector_key
from anabranch.messages import Event, Item, ReleaseNotice, encode
from anabranch.settings import Settings
from tests.kafka.world import ITEMS, Process, Scrape, World, await_true, purchases

NESTED = b'{"event_id":"e","user_id":"u0","type":"view","ts":1,"item_id":"i","x":' + b"[" * 100_000
LONE_SURROGATE = b'{"event_id":"e","user_id":"u0","type":"view","ts":1,"item_id":"\\ud800"}'


pytestmark = pytest.mark.filterwarnings("ignore:key_serializer does not implement:DeprecationWarning")


@pytest.fixture
def world(settings: Settings, topics: Topics) -> World:
    return World(settings)


def send(
    world: World,
    topic: str,
    key: bytes | None,
    value: bytes | None,
    headers: list[tuple[str, bytes]] | None = None,
    **configs: Any,
) -> None:
    """Send one record, with any bytes and headers."""
    with closing(clients.producer(world.settings, **configs)) as producer:
        producer.send(topic, key=key, value=value, headers=headers).get(30)


def send_null_record(world: World, topic: str) -> None:
    """Send a record with neither key nor value. A client does so only if its serializer drops the key."""
    send(world, topic, b"lost", None, key_serializer=lambda _: None)


def headers(record: ConsumerRecord) -> list[tuple[bytes, bytes]]:
    """A record's headers, with the names as bytes."""
    return [(name.encode(), value) for name, value in record.headers]


def await_dead_letters(world: World, count: int) -> list[ConsumerRecord]:
    await_true(lambda: len(world.records(world.topics.dead_letter)) >= count, f"{count} dead letters")
    return world.records(world.topics.dead_letter)


def test_header_names_of_any_bytes_stop_no_ranker_and_are_kept_in_the_dead_letter(world: World) -> None:
    world.go_live("r1")
    odd = [(HeaderName(b"\xff\xfe"), b"1"), ("topic", b"a producer's own")]
    first, second = purchases(2, users=1)
    with Process(world.settings, "rank", "--start", "earliest") as ranker:
        send(world, world.topics.events, b"u0", encode(first), odd)
        send(world, world.topics.events, b"u0", b"junk", odd)
        send(world, world.topics.events, b"u0", encode(second))
        world.await_rankings(2)
        (dead,) = await_dead_letters(world, 1)
        assert ranker.terminate() == 0
    assert dead.value == b"junk"
    assert headers(dead)[:2] == [(b"\xff\xfe", b"1"), (b"topic", b"a producer's own")]
    with Process(world.settings, "rank"):  # its recovery reads all of these records again
        world.publish(purchases(1, users=1, first=2))
        assert len(world.await_rankings(3)) == 3


def test_the_dead_letter_of_a_ten_megabyte_record_gives_only_its_position(world: World) -> None:
    world.go_live("r1")
    large = b'{"event_id":"' + b"a" * 10_000_000 + b'"}'
    with Process(world.settings, "rank", "--start", "earliest"):
        send(world, world.topics.events, b"u0", large, compression_type="zstd", max_request_size=20_000_000)
        world.publish(purchases(5))
        world.await_rankings(5)
        (dead,) = await_dead_letters(world, 1)
    added = dict(dead.headers)
    assert (dead.value, added["category"]) == (b"", b"too_large")
    original = clients.record_at(world.settings, world.topics.events, int(added["partition"]), int(added["offset"]))
    assert original is not None
    assert original.value == large


def test_an_event_from_the_future_is_ranked_as_of_now_counted_and_published_unchanged(world: World) -> None:
    """Recovery replays it in the same way: a restarted ranker ranks later events as one that did not stop."""
    world.go_live("r1")
    future, *later = purchases(5, users=1)
    future = msgspec.structs.replace(future, ts=4_000_000_000_000)
    with Process(world.settings, "rank", "--start", "earliest", "--metrics-port", "0") as ranker:
        scrape = Scrape.of(ranker)
        world.publish([future])
        (ranking,) = world.await_rankings(1)
        await_true(
            lambda: scrape.value("anabranch_events_corrected_total", reason="clock_skew") == 1, "the count", ranker.log
        )
        assert ranker.terminate() == 0
    (feedback,) = (messages.feedback.decode(record.value) for record in world.records(world.topics.feedback))
    assert (ranking.cause.ts, feedback.event) == (future.ts, future)
    with Process(world.settings, "rank") as ranker:
        world.publish(later)
        restarted = {ranking.cause.event_id: ranking.slate for ranking in world.await_rankings(5)}
        assert ranker.terminate() == 0
    world.reset_offsets()
    with Process(world.settings, "rank"):
        unbroken = {ranking.cause.event_id: ranking.slate for ranking in world.await_rankings(10)[-5:]}
    assert restarted == unbroken


def test_duplicates_are_detected_within_the_configured_window(world: World) -> None:
    world.go_live("r1")
    events = purchases(3, users=1)
    with Process(
        world.settings, "--set", "dedupe_window=2", "rank", "--start", "earliest", "--metrics-port", "0"
    ) as ranker:
        scrape = Scrape.of(ranker)
        world.publish([*events, events[1], events[0]])
        ranked = [ranking.cause.event_id for ranking in world.await_rankings(4)]
        await_true(
            lambda: scrape.value("anabranch_events_ignored_total", reason="duplicate") == 1, "one duplicate", ranker.log
        )
    assert ranked == [event.event_id for event in (*events, events[0])]


def test_null_records_deep_nesting_and_lone_surrogates_are_dead_letters(world: World) -> None:
    world.go_live("r1")
    with Process(world.settings, "rank", "--start", "earliest"):
        send_null_record(world, world.topics.events)
        send(world, world.topics.events, b"u0", NESTED)
        send(world, world.topics.events, b"u0", LONE_SURROGATE)
        world.publish(purchases(5))
        world.await_rankings(5)
        dead = await_dead_letters(world, 3)
    received = {(record.key, record.value, dict(record.headers)["category"]) for record in dead}
    assert received == {(None, b"", b"empty"), (b"u0", NESTED, b"invalid"), (b"u0", LONE_SURROGATE, b"invalid")}


def test_foreign_records_on_internal_topics_are_counted_and_skipped(world: World) -> None:
    world.go_live("r1")
    topics = world.topics
    notice = ReleaseNotice(release="r\x1f9", status="live", ts=1, location="r9", manifest_sha256="0")
    junk = [
        (topics.releases, b"junk", b"junk"),
        (topics.releases, b"r\x1f9", encode(notice)),
        (topics.releases, b"\xff", None),
        (topics.neighbours, b"junk", b"junk"),
        (topics.neighbours, b"\xff", None),
        (topics.item_vectors, b"no separator", b"junk"),
        (topics.item_vectors, b"\xff\x1fr1", None),
        (topics.item_vectors, vector_key(ITEMS[0], "r1"), b"junk"),
    ]
    for topic, record_key, value in junk:
        world.send(topic, record_key, value)
    with Process(world.settings, "rank", "--start", "earliest", "--metrics-port", "0") as ranker:
        scrape = Scrape.of(ranker)
        world.publish(purchases(5))
        assert {ranking.release for ranking in world.await_rankings(5)} == {"r1"}
        for topic in (topics.releases, topics.neighbours, topics.item_vectors):
            expected = sum(record[0] == topic for record in junk)
            await_true(
                lambda topic=topic, expected=expected: (  # type: ignore[misc]
                    scrape.value("anabranch_messages_passed_over_total", topic=topic) >= expected
                ),
                f"{expected} messages skipped on {topic}",
                ranker.log,
            )
        assert ranker.terminate() == 0
    world.send(topics.rankings, b"u0", b"junk")
    world.send(topics.rankings, b"\xff", None)
    with Process(world.settings, "rank"):  # its recovery reads them again
        world.publish(purchases(5, first=5))
        await_true(lambda: len(world.records(topics.feedback)) == 10, "ten events ranked")
    with Process(world.settings, "index") as indexer:
        world.publish_items([Item(item_id=item_id, title=item_id) for item_id in ITEMS])
        indexer.await_log("indexing of release r1 is complete")
        assert indexer.terminate() == 0


def test_an_item_id_with_the_key_separator_is_a_dead_letter_and_affects_no_other_item(world: World) -> None:
    items = [Item(item_id=item_id, title=item_id) for item_id in ITEMS]
    world.announce("r1")
    world.publish_items([*items[:30], Item(item_id="a\x1fr1", title="a"), *items[30:]])
    world.send(world.topics.items, b"b\x1fr1", None)
    with Process(world.settings, "index") as indexer:
        indexer.await_log("indexing of release r1 is complete")
        dead = await_dead_letters(world, 2)
        assert indexer.terminate() == 0
    assert {record.key for record in dead} == {key("a\x1fr1"), key("b\x1fr1")}
    with Process(world.settings, "rank", "--start", "earliest"):
        world.publish([Event(event_id="e", user_id="u", type="view", ts=1, item_id="a/b")])
        assert len(world.await_rankings(1)[0].slate) == 20


def test_a_record_with_forty_thousand_empty_headers_is_a_dead_letter_that_fits(world: World) -> None:
    """Its headers have no bytes of their own, and make a dead letter larger than the producer or the topic takes."""
    value, many = b"x" * 1_048_000, [("", b"")] * 40_000
    assert batch_bytes(b"u0", value, many) > largest_record_bytes(world.settings)
    world.go_live("r1")
    with Process(world.settings, "rank", "--start", "earliest") as ranker:
        send(world, world.topics.events, b"u0", value, many, compression_type="gzip", max_request_size=2_000_000)
        world.publish(purchases(5))
        world.await_rankings(5)
        (dead,) = await_dead_letters(world, 1)
        assert ranker.terminate() == 0
    assert (dead.value, dict(dead.headers)["category"]) == (b"", b"too_large")


def test_three_hundred_large_and_deep_events_are_ranked_in_batches_that_are_bounded_by_bytes(world: World) -> None:
    """They are valid, and compress so well that one fetch has all of them, in batches within the bound."""
    world.go_live("r1")
    nested = b",".join([b"[" * (NESTING - 2) + b"]" * (NESTING - 2)] * 5000)
    deep = [encode(event)[:-1] + b',"x":[' + nested + b"]}" for event in purchases(300, users=1)]
    with closing(clients.producer(world.settings, compression_type="zstd", batch_size=1 << 24)) as producer:
        for value in deep:
            producer.send(world.topics.events, key=b"u0", value=value)
    with Process(world.settings, "rank", "--start", "earliest", "--metrics-port", "0") as ranker:
        scrape = Scrape.of(ranker)
        world.await_rankings(300)
        most = PollBudget().bytes_left // len(deep[0]) + 1
        await_true(lambda: (scrape.value("anabranch_batch_events_count") or 0) >= 300 / (2 * most), "bounded batches")
        assert ranker.terminate() == 0
