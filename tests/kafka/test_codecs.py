"""Producers may compress as they like: what can be read is ranked, and what cannot stops nothing and is not lost."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import cramjam
import lz4.frame
import pytest
import zstandard
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.consumer.fetcher import ConsumerRecord
from kafka.record import default_records

from anabranch.harness.chaos import stream as chaos_stream
from anabranch.harness.chaos.stream import EventStream, Message
from anabranch.inspection import topic_messages
from anabranch.kafka import clients, record_batches
from anabranch.kafka.record_batches import UnreadableValue
from anabranch.kafka.topics import Topics, check, require
from anabranch.messages import Item, encode
from anabranch.settings import Settings
from consumers import dead_letter_admin
from consumers.runtime.dead_letter import NotReplayable
from tests.kafka.world import ITEMS, Process, Scrape, World, await_true, purchases

CODECS = ("gzip", "snappy", "lz4", "zstd")
BOMBS = ("gzip", "lz4", "zstd")
"""Snappy reaches 21:1, and a batch may decompress to 32 times what the topic takes."""
BOMB_BYTES = 64 << 20


@pytest.fixture
def world(settings: Settings, topics: Topics) -> World:
    return World(settings)


def send(world: World, topic: str, values: list[bytes], codec: str | None, key: bytes = b"u0") -> None:
    """Send the values as one compressed batch, as a producer without our limits would."""
    configs: dict[str, Any] = {"max_request_size": 1 << 30, "batch_size": 1 << 30}
    with closing(clients.producer(world.settings, compression_type=codec, linger_ms=60_000, **configs)) as producer:
        futures = [producer.send(topic, key=key, value=value) for value in values]
        producer.flush()
        for future in futures:
            future.get(30)


def await_dead_letters(world: World, count: int) -> list[ConsumerRecord]:
    await_true(lambda: len(world.records(world.topics.dead_letter)) >= count, f"{count} dead letters")
    return world.records(world.topics.dead_letter)


def memory_bytes(process: Process, field: str) -> int:
    """What the kernel says of a process's memory."""
    (line,) = (
        line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if line.startswith(f"{field}:")
    )
    return int(line.split()[1]) << 10


def watch_codecs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The codecs of the compressed batches that this process reads from now on."""
    read: list[int] = []
    decompress = record_batches.decompress

    def watched(codec: int, payload: bytes, max_bytes: int) -> bytes:
        read.append(codec)
        return decompress(codec, payload, max_bytes)

    monkeypatch.setattr(record_batches, "decompress", watched)
    return read


def zstd_of_java(payload: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=False).compress(payload)


def lz4_of_java(payload: bytes) -> bytes:
    return lz4.frame.compress(payload, block_linked=False, store_size=False)


def raw_snappy(payload: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(payload))


def test_events_of_every_codec_are_ranked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As kafka-python writes them, and then as Java and librdkafka do."""
    world.go_live("r1")
    batches = [encode(event) for event in purchases(90, users=1)]
    with Process(world.settings, "rank", "--start", "earliest") as ranker:
        for number, codec in enumerate((None, *CODECS)):
            send(world, world.topics.events, batches[number * 10 : number * 10 + 10], codec)
        monkeypatch.setattr(default_records, "snappy_encode", raw_snappy)
        monkeypatch.setattr(default_records, "lz4_encode", lz4_of_java)
        monkeypatch.setattr(default_records, "zstd_encode", zstd_of_java)
        for number, codec in enumerate(CODECS, start=5):
            send(world, world.topics.events, batches[number * 10 : number * 10 + 10], codec)
        assert len({ranking.cause.event_id for ranking in world.await_rankings(90)}) == 90
        assert ranker.terminate() == 0
    read = watch_codecs(monkeypatch)
    assert len(world.records(world.topics.events)) == 90
    assert sorted(read) == [1, 1, 2, 2, 3, 3, 4, 4], "the broker keeps each producer's codec"


def test_batches_that_decompress_to_64_megabytes_become_dead_letters_with_their_positions(world: World) -> None:
    world.go_live("r1")
    events = world.topics.events
    with Process(world.settings, "rank", "--start", "earliest", "--metrics-port", "0") as ranker:
        scrape = Scrape.of(ranker)
        world.publish(purchases(5, users=1))
        world.await_rankings(5)
        before = memory_bytes(ranker, "VmRSS")
        Path(f"/proc/{ranker.pid}/clear_refs").write_text("5")  # the peak begins anew
        for codec in BOMBS:
            send(world, events, [b" " * BOMB_BYTES], codec)
        send(world, events, [b" " * 1_000_000] * 60, "zstd")
        world.publish(purchases(5, users=1, first=5))
        world.await_rankings(10)
        dead = await_dead_letters(world, 63)
        assert memory_bytes(ranker, "VmHWM") - before < 2 * BOMB_BYTES
        await_true(lambda: scrape.value("anabranch_dead_letters_total", reason="too_large") == 63, "the count")
        assert ranker.terminate() == 0
    assert {(record.key, record.value) for record in dead} == {(None, b"")}
    added = [dict(record.headers) for record in dead]
    assert {headers["category"] for headers in added} == {b"too_large"}
    assert sorted(int(headers["offset"]) for headers in added) == list(range(5, 68))
    with Process(world.settings, "rank"):  # its recovery reads all of it again
        world.publish(purchases(5, users=1, first=10))
        assert len(world.await_rankings(15)) == 15
    assert len(world.records(world.topics.dead_letter)) == 63


def test_the_tools_for_dead_letters_say_why_an_original_cannot_be_read(world: World) -> None:
    world.go_live("r1")
    with Process(world.settings, "rank", "--start", "earliest"):
        send(world, world.topics.events, [b" " * BOMB_BYTES], "zstd")
        (dead,) = await_dead_letters(world, 1)
    (view,) = dead_letter_admin.list_newest(world.settings, 10)
    assert view.category == "too_large"
    assert "decompress to more than" in str(view.reason)
    with pytest.raises(NotReplayable, match="decompress to more than"):
        dead_letter_admin.original_payload(world.settings, dead.partition, dead.offset)
    (result,) = dead_letter_admin.replay(world.settings)
    assert result.sent == {world.topics.dead_letter: 1}
    (message,) = topic_messages.read_messages(world.settings, ["events"])
    assert "decompress to more than" in message.message["invalid"]


def test_unreadable_batches_on_other_topics_are_counted_and_items_become_dead_letters(world: World) -> None:
    world.go_live("r1")
    topics = world.topics
    for topic in (topics.releases, topics.neighbours, topics.item_vectors, topics.items):
        send(world, topic, [b" " * BOMB_BYTES], "zstd")
    with Process(world.settings, "rank", "--start", "earliest", "--metrics-port", "0") as ranker:
        scrape = Scrape.of(ranker)
        world.publish(purchases(5))
        world.await_rankings(5)
        for topic in (topics.releases, topics.neighbours, topics.item_vectors):
            await_true(
                lambda topic=topic: scrape.value("anabranch_messages_passed_over_total", topic=topic) >= 1,  # type: ignore[misc]
                f"a message skipped on {topic}",
                ranker.log,
            )
        assert ranker.terminate() == 0
    with Process(world.settings, "index") as indexer:
        world.publish_items([Item(item_id=item_id, title=item_id) for item_id in ITEMS])
        indexer.await_log("indexing of release r1 is complete")
        (dead,) = await_dead_letters(world, 1)
        assert indexer.terminate() == 0
    assert dict(dead.headers)["topic"] == topics.items.encode()


def test_a_reader_holds_a_batch_within_the_bound_and_marks_one_beyond(world: World) -> None:
    send(world, world.topics.events, [b" " * (30 << 20)], "zstd")
    send(world, world.topics.events, [b" " * (40 << 20)], "zstd")
    within, beyond = world.records(world.topics.events)
    assert len(within.value) == 30 << 20
    assert isinstance(beyond.value, UnreadableValue)


def test_a_topic_that_compresses_again_is_told_with_the_command_and_stops_no_process(
    topics: Topics, admin: KafkaAdminClient, settings: Settings
) -> None:
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topics.events, {"compression.type": "gzip"})])
    await_true(lambda: len(check(admin, settings)) >= 1, "the change")
    (line,) = (line for line in check(admin, settings) if "compression.type" in line)
    assert f"kafka-configs.sh --alter --topic {topics.events} --add-config compression.type=producer" in line
    require(admin, settings, configs=False)


def test_the_stream_of_a_chaos_run_takes_every_codec_in_turn(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chaos_stream, "MESSAGES_PER_CODEC", 20)
    messages = [Message(b"u0", encode(event)) for event in purchases(110, users=1)]
    stream = EventStream(world.settings, world.topics.events, iter(messages), 100_000)
    stream.start()
    await_true(lambda: stream.sent == len(messages), "all messages")
    stream.stop()
    read = watch_codecs(monkeypatch)
    assert [record.value for record in world.records(world.topics.events)] == [message.value for message in messages]
    assert set(read) == {1, 2, 3, 4}
    assert stream.failures == 0
