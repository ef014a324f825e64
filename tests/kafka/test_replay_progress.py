"""Which dead letters were replayed is known for ever, on a real broker, and it is known to the transaction."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing

import msgspec
import pytest
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient

from anabranch import messages
from anabranch.kafka import clients
from anabranch.kafka.records import offsets_and_metadata
from anabranch.kafka.topics import Topics, provision
from anabranch.messages import DeadLetterReplay, encode
from anabranch.settings import Settings
from tests.kafka.dead_letters import listed, numbered, publish_dead_letters, run, values
from tests.kafka.world import World, await_true


@pytest.fixture
def world(settings: Settings, topics: Topics) -> World:
    return World(settings)


def commit_in_group(world: World, group: str) -> None:
    """Commit the ends of the dead letters, as earlier versions did after a replay."""
    with closing(clients.group_consumer(world.settings, group)) as consumer:
        ends = consumer.end_offsets(clients.assign(consumer, [world.topics.dead_letter]))
        consumer.commit(offsets_and_metadata({partition: end for partition, end in ends.items() if end > 0}))


def committed(world: World, group: str) -> Mapping[int, int | None]:
    with closing(clients.group_consumer(world.settings, group)) as consumer:
        partitions = clients.assign(consumer, [world.topics.dead_letter])
        return {partition.partition: consumer.committed(partition) for partition in partitions}


def recorded(world: World) -> dict[int, int]:
    """What topic `dead-letter-replays` says."""
    records = world.records(world.topics.dead_letter_replays)
    return {int(record.key): messages.dead_letter_replays.decode(record.value).next_offset for record in records}


def test_replayed_dead_letters_stay_replayed_when_the_broker_forgets_the_offsets_of_groups(
    settings: Settings, forgetful_broker: str
) -> None:
    world = World(msgspec.structs.replace(settings, bootstrap_servers=forgetful_broker))
    with closing(clients.admin(world.settings)) as admin:
        provision(admin, world.settings)
    publish_dead_letters(world, *numbered(world, 20))
    assert f"20 went to {world.topics.events}" in run(world, "replay").stdout
    commit_in_group(world, "canary")
    assert any(committed(world, "canary").values())
    await_true(lambda: not any(committed(world, "canary").values()), "the end of committed offsets", patience_s=150)
    assert "there is nothing to replay" in run(world, "replay").stdout
    assert values(world, world.topics.events).total() == 20
    assert all(line["replayed"] for line in listed(world))


def test_replays_of_an_earlier_version_count_and_are_recorded_by_the_next_replay(
    world: World, admin: KafkaAdminClient
) -> None:
    group = world.settings.group("dead_letter")
    publish_dead_letters(world, *numbered(world, 20))
    commit_in_group(world, group)
    assert all(line["replayed"] for line in listed(world))
    assert "there is nothing to replay" in run(world, "replay").stdout
    assert recorded(world) == {partition: offset or 0 for partition, offset in committed(world, group).items()}
    admin.delete_groups([group])
    publish_dead_letters(world, *numbered(world, 3))
    assert f"3 went to {world.topics.events}" in run(world, "replay").stdout
    assert values(world, world.topics.events).total() == 3


def test_progress_that_was_not_committed_does_not_count(world: World) -> None:
    publish_dead_letters(world, *numbered(world, 5))
    dead = clients.transactional_producer(world.settings, f"{world.settings.group('dead_letter')}-replay")
    dead.begin_transaction()
    for partition in range(world.settings.partitions):
        progress = encode(DeadLetterReplay(next_offset=5, ts=1))
        dead.send(world.topics.dead_letter_replays, key=b"%d" % partition, value=progress, partition=0)
    dead.flush()
    assert f"5 went to {world.topics.events}" in run(world, "replay").stdout
    dead.close(timeout=0)


def test_a_topic_of_dead_letters_that_was_created_anew_is_an_error_with_a_remedy_that_works(world: World) -> None:
    publish_dead_letters(world, *numbered(world, 5))
    beyond = encode(DeadLetterReplay(next_offset=1_000, ts=1))
    for partition in range(world.settings.partitions):
        world.send(world.topics.dead_letter_replays, b"%d" % partition, beyond)
    for arguments in (["replay"], ["replay", "--dry-run"], ["show"]):
        result = run(world, *arguments)
        assert result.exit_code == 1
        assert "has been replayed up to offset 1000" in result.output
        assert "`anabranch dead-letters replay --from-start`" in result.output
    assert f"5 would go to {world.topics.events}" in run(world, "replay", "--dry-run", "--from-start").stdout
    assert f"5 went to {world.topics.events}" in run(world, "replay", "--from-start").stdout
    assert "there is nothing to replay" in run(world, "replay").stdout
    assert values(world, world.topics.events).total() == 5


def test_what_was_replayed_is_replayed_again_from_the_start_on_demand(world: World) -> None:
    publish_dead_letters(world, *numbered(world, 5))
    assert run(world, "replay").exit_code == 0
    assert f"5 went to {world.topics.events}" in run(world, "replay", "--from-start").stdout
    assert "there is nothing to replay" in run(world, "replay").stdout


def test_a_record_of_somebody_else_is_an_error_with_its_position(world: World) -> None:
    world.send(world.topics.dead_letter_replays, b"0", b"{}")
    result = run(world, "replay")
    assert result.exit_code == 1
    assert f"{world.topics.dead_letter_replays}, partition 0, offset 0" in result.output
    assert "next_offset" in result.output


def test_without_the_topic_of_replays_the_error_says_what_creates_it(world: World, admin: KafkaAdminClient) -> None:
    """An installation that an earlier version made."""
    name = world.topics.dead_letter_replays
    admin.delete_topics([name])
    await_true(lambda: name not in admin.list_topics(), "the end of the topic")
    result = run(world, "replay")
    assert result.exit_code == 1
    assert f"{name} is missing: `anabranch topics provision` creates it" in result.output
    assert provision(admin, world.settings) == [name]
    assert run(world, "replay").exit_code == 0


def test_partition_numbers_are_the_keys_of_replays(world: World) -> None:
    publish_dead_letters(world, *numbered(world, 20))
    assert run(world, "replay").exit_code == 0
    with closing(clients.reader(world.settings, [world.topics.dead_letter])) as consumer:
        ends: Mapping[TopicPartition, int] = consumer.end_offsets(list(consumer.assignment()))
    assert recorded(world) == {partition.partition: end for partition, end in ends.items() if end > 0}
