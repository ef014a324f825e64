"""Dead letters listed and replayed, on a real broker: each of them once, unchanged."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import msgspec
import pytest

from anabranch.kafka import clients
from anabranch.kafka.log_reader import KafkaLogReader
from anabranch.kafka.topics import Topics, key
from anabranch.messages import DeadLetterCategory, Item, encode
from anabranch.settings import Settings
from consumers.dead_letter_admin import replay
from consumers.ranker.dead_letter_offsets import DeadLetterOffsets
from consumers.runtime.dead_letter import DeadLetter
from consumers.runtime.publishers import TransactionAborted
from tests.kafka.dead_letters import dead_letter, listed, numbered, publish_dead_letters, run, values
from tests.kafka.world import ITEMS, Process, World, await_true, purchases


@pytest.fixture
def world(settings: Settings, topics: Topics) -> World:
    return World(settings)


def test_poison_is_listed_with_its_reason_position_and_bytes(world: World) -> None:
    world.go_live("r1")
    poison = b"\xff not json " + b"x" * 1000
    with Process(world.settings, "rank", "--start", "earliest"):
        world.send(world.topics.events, b"u0", poison)
        world.send(world.topics.events, b"u1", None)
        world.send(world.topics.events, b"someone else", encode(purchases(1)[0]))
        await_true(lambda: len(world.records(world.topics.dead_letter)) == 3, "three dead letters")
    (line,) = listed(world, "--reason", "invalid")
    (source,) = [record for record in world.records(world.topics.events) if record.value == poison]
    assert line["source"] == {"topic": source.topic, "partition": source.partition, "offset": source.offset}
    assert (line["category"], line["key"], line["size"], line["replayed"]) == ("invalid", "u0", len(poison), False)
    assert "utf-8" in line["reason"]
    assert line["payload"].startswith("� not json xxx")
    assert len(line["payload"]) < len(poison)
    assert run(world, "show", "--payload", f"{line['partition']}:{line['offset']}").stdout_bytes == poison
    assert {line["category"] for line in listed(world)} == {"invalid", "empty", "wrong_key"}


def test_the_newest_dead_letters_are_listed_newest_last(world: World) -> None:
    for number in range(5):
        publish_dead_letters(world, dead_letter(world, b"%d" % number, key=b"u%d" % number))
    assert [line["payload"] for line in listed(world, "--limit", "3")] == ["2", "3", "4"]


def test_replayed_dead_letters_are_ranked_after_a_fix(world: World) -> None:
    """A ranker with a small size limit rejects an event; one with a larger limit ranks it after the replay."""
    world.go_live("r1")
    small, large = purchases(2, users=1)
    large = msgspec.structs.replace(large, context={"referrer": "x" * 4000})
    with Process(world.settings, "--set", "max_message_bytes=2048", "rank", "--start", "earliest") as ranker:
        world.publish([small, large])
        world.await_rankings(1)
        await_true(lambda: len(world.records(world.topics.dead_letter)) == 1, "one dead letter")
        assert ranker.terminate() == 0
    (line,) = listed(world)
    assert (line["category"], line["replayed"]) == ("too_large", False)
    assert run(world, "show", "--payload", f"{line['partition']}:{line['offset']}").stdout_bytes == encode(large)
    with Process(world.settings, "rank"):
        assert f"1 went to {world.topics.events}" in run(world, "replay").stdout
        rankings = world.await_rankings(2)
    assert [ranking.cause.event_id for ranking in rankings] == [small.event_id, large.event_id]
    assert [line["replayed"] for line in listed(world)] == [True]
    assert len(world.records(world.topics.dead_letter)) == 1


def test_a_record_that_is_still_too_large_becomes_a_new_dead_letter(world: World) -> None:
    world.go_live("r1")
    (large,) = (msgspec.structs.replace(event, context={"referrer": "x" * 4000}) for event in purchases(1))
    with Process(world.settings, "--set", "max_message_bytes=2048", "rank", "--start", "earliest"):
        world.publish([large])
        await_true(lambda: len(world.records(world.topics.dead_letter)) == 1, "one dead letter")
    small = msgspec.structs.replace(world.settings, max_message_bytes=2048)
    (result,) = replay(small)
    assert result.sent == {world.topics.dead_letter: 1}
    old, new = listed(world)
    assert (old["replayed"], new["replayed"]) == (True, False)
    assert old["source"] == new["source"]


def test_a_replayed_item_is_indexed(world: World) -> None:
    world.announce("r1")
    item = Item(item_id="long", title="x" * 3000)
    world.publish_items([*(Item(item_id=item_id, title=item_id) for item_id in ITEMS), item])
    with Process(world.settings, "--set", "max_message_bytes=2048", "index") as indexer:
        indexer.await_log(f"indexing of release r1 is complete: {len(ITEMS)} items")
        await_true(lambda: len(listed(world)) == 1, "one dead letter", indexer.log)
        assert indexer.terminate() == 0
    assert f"1 went to {world.topics.items}" in run(world, "replay").stdout
    assert [record.value for record in world.records(world.topics.items) if record.key == b"long"] == [encode(item)] * 2
    with Process(world.settings, "index") as indexer:
        indexer.await_log(f"indexing of release r1 is complete: {len(ITEMS) + 1} items")


def test_a_replay_keeps_key_value_and_the_producers_headers(world: World) -> None:
    publish_dead_letters(world, dead_letter(world, b"\x00\xff bytes", key=b"\xfe"), dead_letter(world, None))
    assert run(world, "replay").exit_code == 0
    replayed = {record.value: record for record in world.records(world.topics.events)}
    assert set(replayed) == {b"\x00\xff bytes", None}
    assert replayed[b"\x00\xff bytes"].key == b"\xfe"
    assert [(name.encode(), value) for name, value in replayed[None].headers] == [
        (b"trace", b"1"),
        (b"reason", b"a producer's own"),
        (b"\xff", b"2"),
    ]


def test_a_record_without_a_key_is_replayed_to_its_partition(world: World) -> None:
    publish_dead_letters(
        world, *(dead_letter(world, b"%d" % partition, key=None, partition=partition) for partition in (0, 1, 0, 1))
    )
    assert run(world, "replay").exit_code == 0
    assert {(record.value, record.partition) for record in world.records(world.topics.events)} == {(b"0", 0), (b"1", 1)}


def test_a_replay_keeps_the_order_of_each_partition(world: World) -> None:
    publish_dead_letters(world, *numbered(world, 60))
    assert sum(len(result.refused) for result in replay(world.settings, chunk=7)) == 0
    for user in range(5):
        values_of_user = [record.value for record in world.records(world.topics.events) if record.key == b"u%d" % user]
        assert values_of_user == sorted(values_of_user)
        assert len(values_of_user) == 12


def test_a_second_replay_replays_nothing(world: World) -> None:
    publish_dead_letters(world, *numbered(world, 10))
    assert f"10 went to {world.topics.events}" in run(world, "replay").stdout
    assert "there is nothing to replay" in run(world, "replay").stdout
    assert all(line["replayed"] for line in listed(world))
    publish_dead_letters(world, dead_letter(world, b"new"))
    assert f"1 went to {world.topics.events}" in run(world, "replay").stdout
    assert values(world, world.topics.events).total() == 11


def test_a_dry_run_prints_the_counts_and_publishes_nothing(world: World) -> None:
    publish_dead_letters(
        world, *numbered(world, 3), dead_letter(world, encode(Item(item_id="i", title="t")), b"i", world.topics.items)
    )
    for _ in range(2):
        output = run(world, "replay", "--dry-run").stdout
        assert f"3 would go to {world.topics.events}" in output
        assert f"1 would go to {world.topics.items}" in output
    assert world.records(world.topics.events) == []


def test_a_replay_killed_between_two_chunks_replays_nothing_twice(world: World) -> None:
    publish_dead_letters(world, *numbered(world, 20))
    first = replay(world.settings, chunk=7)
    assert next(first).sent.total() == 7
    del first  # the rest of it never runs
    assert sum(result.sent.total() for result in replay(world.settings, chunk=7)) == 13
    assert values(world, world.topics.events) == {b"%03d" % number: 1 for number in range(20)}


def test_the_open_transaction_of_a_killed_replay_is_aborted_by_the_next(world: World) -> None:
    publish_dead_letters(world, *numbered(world, 5))
    dead = clients.transactional_producer(world.settings, f"{world.settings.group('dead_letter')}-replay")
    dead.begin_transaction()
    for number in range(5):
        dead.send(world.topics.events, key=b"u0", value=b"%03d" % number)
    dead.flush()
    assert sum(result.sent.total() for result in replay(world.settings)) == 5
    assert values(world, world.topics.events) == {b"%03d" % number: 1 for number in range(5)}
    dead.close(timeout=0)


def test_a_second_replay_fences_a_running_one_and_nothing_is_replayed_twice(world: World) -> None:
    publish_dead_letters(world, *numbered(world, 20))
    first = replay(world.settings, chunk=3)
    next(first)
    second = replay(world.settings, chunk=3)
    next(second)
    with pytest.raises(TransactionAborted, match="another replay"):
        next(first)
    for _ in second:
        pass
    assert values(world, world.topics.events) == {b"%03d" % number: 1 for number in range(20)}


def test_dead_letters_of_unknown_topics_are_refused_and_the_others_are_replayed(world: World) -> None:
    publish_dead_letters(
        world,
        dead_letter(world, b"1"),
        dead_letter(world, b"x", topic="another.events"),
        dead_letter(world, b"x", topic=world.topics.rankings),
        dead_letter(world, b"x", partition=7, key=None),
        dead_letter(world, None, key=None),
        dead_letter(world, b"2"),
    )
    world.send(world.topics.dead_letter, b"u0", b"no dead letter")
    result = run(world, "replay")
    assert result.exit_code == 0
    assert f"2 went to {world.topics.events}" in result.stdout
    assert "5 cannot be replayed" in result.stdout
    for text in ("`topic` names 'another.events'", "`partition` is 7", "`category` is 'empty'", "`topic` is missing"):
        assert text in result.stderr
    assert values(world, world.topics.events) == {b"1": 1, b"2": 1}
    lines = listed(world)
    assert Counter(line["replayed"] for line in lines) == {True: 2, False: 5}
    assert all(("refused" in line) != line["replayed"] for line in lines)


@pytest.mark.parametrize("category", ["too_large", "unreadable"])
def test_a_too_large_record_that_no_longer_exists_is_not_replayed(world: World, category: DeadLetterCategory) -> None:
    """Its dead letter has only its position."""
    record = dead_letter(world, b"", offset=12_345).record
    publish_dead_letters(world, DeadLetter(record, category, "a reason"))
    result = run(world, "replay")
    assert "1 cannot be replayed" in result.stdout
    assert "`offset` is 12345" in result.stderr
    assert "`offset` is 12345" in run(world, "show", "--payload", position(listed(world)[0])).output


def position(line: dict[str, Any]) -> str:
    return f"{line['partition']}:{line['offset']}"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--reason", "ugly"], "the categories are empty, invalid, wrong_key, too_large"),
        (["--payload", "here"], "PARTITION:OFFSET"),
        (["--payload", "0:99"], "holds nothing in partition 0 at offset 99"),
        (["--payload", "99:0"], "holds nothing in partition 99"),
    ],
)
def test_an_error_of_show_is_one_line(world: World, arguments: list[str], expected: str) -> None:
    result = run(world, "show", *arguments)
    assert result.exit_code != 0
    assert expected in result.output
    assert "Traceback" not in result.output


def test_dead_letters_are_found_by_the_time_at_which_the_broker_appended_them(world: World) -> None:
    """Their producers' clocks are not asked: these are of 1970."""
    publish_dead_letters(world, *numbered(world, 50))
    time.sleep(1.1)
    since_ms = time.time_ns() // 1_000_000 - 500
    assert clients.ranges_since(world.settings, world.topics.dead_letter, since_ms) == {}
    publish_dead_letters(world, *numbered(world, 7))
    ranges = clients.ranges_since(world.settings, world.topics.dead_letter, since_ms)
    assert sum(map(len, ranges.values())) == 7
    everything = clients.ranges_since(world.settings, world.topics.dead_letter, 0)
    assert sum(map(len, everything.values())) == 57
    assert {(partition, offsets.stop) for partition, offsets in everything.items()} >= {
        (partition, offsets.stop) for partition, offsets in ranges.items()
    }


def test_a_dead_letter_behind_another_rankers_open_transaction_is_waited_for(world: World) -> None:
    other = clients.transactional_producer(world.settings, f"{world.settings.topic_prefix}other")
    other.begin_transaction()
    for partition in range(world.settings.partitions):
        other.send(world.topics.dead_letter, key=b"u1", value=b"of another ranker", partition=partition)
    other.flush()
    publish_dead_letters(world, dead_letter(world, b"{", offset=17))
    offsets = DeadLetterOffsets(KafkaLogReader(world.settings), world.topics)
    steps = offsets.catch_up()
    for _ in range(20):
        next(steps)
    assert not offsets.holds(1, 17), "committed records behind an open transaction cannot be read yet"
    other.abort_transaction()
    for _ in steps:
        pass
    assert offsets.holds(1, 17)
    other.close()


def test_a_replayed_item_keeps_its_key(world: World) -> None:
    item = Item(item_id="i", title="t")
    publish_dead_letters(world, dead_letter(world, encode(item), key=key("i"), topic=world.topics.items))
    assert run(world, "replay").exit_code == 0
    (replayed,) = world.records(world.topics.items)
    assert (replayed.key, replayed.value) == (b"i", encode(item))
