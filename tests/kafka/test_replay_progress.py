"""Which dead letters and events of files were replayed is known for ever, on a real broker."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from itertools import islice

import pytest
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient

from anabranch import messages
from anabranch.errors import BrokerUnavailable
from anabranch.kafka import clients
from anabranch.kafka.records import offsets_and_metadata
from anabranch.kafka.replay_progress import ReplayProgressError, file_key, partition_key
from anabranch.kafka.topics import Topics, provision
from anabranch.messages import Event, ReplayProgress, encode
from anabranch.settings import Settings
from producers.file_replay import RecordedEvents, replay_file
from tests.kafka.dead_letters import listed, numbered, publish_dead_letters, run, values
from tests.kafka.world import World, await_true
from tests.support.topic_prefixes import unique_prefix


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
    """What topic `replays` says of dead letters, by partition."""
    records = world.records(world.topics.replays)
    return {
        int(record.key.removeprefix(b"dead-letters/")): messages.replays.decode(record.value).next for record in records
    }


@pytest.fixture(scope="module")
def forgotten(forgetful_broker: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[World, World]:
    """A world whose dead letters were replayed, and one whose file was, on a broker that then forgot all offsets of
    groups. It takes more than a minute, so both wait together."""
    dead_letters, file = (_world_on(forgetful_broker, tmp_path_factory) for _ in range(2))
    publish_dead_letters(dead_letters, *numbered(dead_letters, 20))
    assert f"20 went to {dead_letters.topics.events}" in run(dead_letters, "replay").stdout
    assert replay_file(file.settings, event_file(20)).published == 20
    publish_dead_letters(file, *numbered(file, 1))
    for world in (dead_letters, file):
        commit_in_group(world, "canary")
        assert any(committed(world, "canary").values())
    for world in (dead_letters, file):
        await_forgetting(world)
    return dead_letters, file


def _world_on(broker: str, folders: pytest.TempPathFactory) -> World:
    prefix = unique_prefix()
    settings = Settings(
        bootstrap_servers=broker, topic_prefix=prefix, data_dir=folders.mktemp("forgotten"), partitions=2
    )
    with closing(clients.admin(settings)) as admin:
        provision(admin, settings)
    return World(settings)


def await_forgetting(world: World) -> None:
    """Wait until the broker has deleted the offsets of the canary, which were committed last."""
    await_true(lambda: not any(committed(world, "canary").values()), "the end of committed offsets", patience_s=150)


def event_file(count: int) -> RecordedEvents:
    events = [Event(event_id=f"e{n}", user_id=f"u{n}", type="view", item_id="i", ts=n) for n in range(count)]
    return RecordedEvents("a-file", count, events)


def published_count(world: World) -> int:
    return len(world.records(world.topics.events))


def commit_as_an_earlier_version(world: World, published: int) -> str:
    """Publish the first events of the file, and commit their number in its group; the group's name."""
    group = f"{world.settings.topic_prefix}replay-a-file"
    for event in islice(event_file(20).events, published):
        world.send(world.topics.events, event.user_id.encode(), encode(event))
    with closing(clients.group_consumer(world.settings, group)) as consumer:
        consumer.commit(offsets_and_metadata({TopicPartition(world.topics.events, 0): published}))
    return group


def test_replayed_dead_letters_stay_replayed_when_the_broker_forgets_the_offsets_of_groups(
    forgotten: tuple[World, World],
) -> None:
    world, _ = forgotten
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
        progress = encode(ReplayProgress(next=5, ts=1))
        dead.send(world.topics.replays, key=partition_key(partition), value=progress, partition=0)
    dead.flush()
    assert f"5 went to {world.topics.events}" in run(world, "replay").stdout
    dead.close(timeout=0)


def test_a_topic_of_dead_letters_that_was_created_anew_is_an_error_with_a_remedy_that_works(world: World) -> None:
    publish_dead_letters(world, *numbered(world, 5))
    beyond = encode(ReplayProgress(next=1_000, ts=1))
    for partition in range(world.settings.partitions):
        world.send(world.topics.replays, partition_key(partition), beyond)
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
    world.send(world.topics.replays, partition_key(0), b"{}")
    result = run(world, "replay")
    assert result.exit_code == 1
    assert f"{world.topics.replays}, partition 0, offset 0" in result.output
    assert "next" in result.output
    with pytest.raises(ReplayProgressError, match=r"offset 0: .* A tombstone with the key b'dead-letters/0' takes the"):
        replay_file(world.settings, event_file(3))
    world.send(world.topics.replays, partition_key(0), None)
    assert run(world, "replay").exit_code == 0
    assert replay_file(world.settings, event_file(3)).published == 3


def test_without_the_topic_of_replays_the_error_says_what_creates_it(world: World, admin: KafkaAdminClient) -> None:
    """An installation that an earlier version made."""
    name = world.topics.replays
    admin.delete_topics([name])
    await_true(lambda: name not in admin.list_topics(), "the end of the topic")
    result = run(world, "replay")
    assert result.exit_code == 1
    assert f"{name} is missing: `anabranch topics provision` creates it" in result.output
    assert provision(admin, world.settings) == [name]
    assert run(world, "replay").exit_code == 0


def test_the_keys_of_dead_letters_name_their_partitions(world: World) -> None:
    publish_dead_letters(world, *numbered(world, 20))
    assert run(world, "replay").exit_code == 0
    with closing(clients.reader(world.settings, [world.topics.dead_letter])) as consumer:
        ends: Mapping[TopicPartition, int] = consumer.end_offsets(list(consumer.assignment()))
    assert recorded(world) == {partition.partition: end for partition, end in ends.items() if end > 0}


# --- Files of events --------------------------------------------------------------------------------------------------


def test_a_published_file_stays_published_when_the_broker_forgets_the_offsets_of_groups(
    forgotten: tuple[World, World],
) -> None:
    _, world = forgotten
    result = replay_file(world.settings, event_file(20))
    assert (result.published_before, result.published) == (20, 0)
    assert published_count(world) == 20


@pytest.mark.parametrize("published", [8, 20], ids=["interrupted", "finished"])
def test_what_an_earlier_version_published_of_a_file_counts_and_is_recorded_by_the_next_replay(
    world: World, admin: KafkaAdminClient, published: int
) -> None:
    group = commit_as_an_earlier_version(world, published)
    assert replay_file(world.settings, event_file(20), limit=5).published_before == published
    admin.delete_groups([group])
    rest = replay_file(world.settings, event_file(20))
    assert rest.published_before == min(published + 5, 20)
    assert published_count(world) == 20


def test_progress_of_a_file_that_was_not_committed_does_not_count(world: World) -> None:
    dead = clients.transactional_producer(world.settings, f"{world.settings.topic_prefix}replay-a-file")
    dead.begin_transaction()
    progress = encode(ReplayProgress(next=20, ts=1))
    dead.send(world.topics.replays, key=file_key("a-file"), value=progress, partition=0)
    dead.flush()
    assert replay_file(world.settings, event_file(20)).published == 20
    dead.close(timeout=0)


def test_a_file_is_published_anew_to_a_topic_of_events_that_was_created_anew(
    world: World, admin: KafkaAdminClient
) -> None:
    assert replay_file(world.settings, event_file(20)).published == 20
    admin.delete_topics([world.topics.events])
    await_true(lambda: world.topics.events not in admin.list_topics(), "the end of the topic")
    provision(admin, world.settings)
    assert replay_file(world.settings, event_file(20)).published == 20
    assert published_count(world) == 20
    assert replay_file(world.settings, event_file(20)).published == 0


def test_without_the_topic_of_replays_no_file_is_published(world: World, admin: KafkaAdminClient) -> None:
    """An installation that an earlier version made."""
    admin.delete_topics([world.topics.replays])
    await_true(lambda: world.topics.replays not in admin.list_topics(), "the end of the topic")
    with pytest.raises(BrokerUnavailable, match="`anabranch topics provision`"):
        replay_file(world.settings, event_file(3))
    assert published_count(world) == 0
