"""More partitions on a real broker: users and their states move, and nothing is lost or doubled."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import closing

import msgspec
import pytest
from kafka.admin import KafkaAdminClient

from anabranch import messages
from anabranch.errors import TopicsDiffer
from anabranch.kafka import clients
from anabranch.kafka.partitions import partition_of
from anabranch.kafka.topics import KEYED_BY_USER, Topics, provision
from anabranch.messages import STATE_MARKER_KEY, SavedState, StateMarker, UserState
from anabranch.settings import Settings
from consumers.ranker import repartitioning
from consumers.ranker.repartitioning import NotRepartitionable, Repartitioning, RepartitionResult
from tests.kafka.test_exactly_once import offline_slates, slates
from tests.kafka.world import Process, World, await_true, purchases
from tests.support.topic_prefixes import unique_prefix

USERS = 40
BEFORE, AFTER = 160, 320


@pytest.fixture
def world(settings: Settings, topics: Topics) -> World:
    return World(settings)


def drained(world: World) -> None:
    """Everything that is there is ranked and saved."""
    with Process(world.settings, "rank", "--start", "earliest", "--drain") as ranker:
        assert ranker.wait() == 0, ranker.log.read_text()


def with_partitions(world: World, partitions: int) -> World:
    """The settings after the command, as it says."""
    assert world.settings.item_partitions is None
    return World(
        msgspec.structs.replace(world.settings, partitions=partitions, item_partitions=world.settings.partitions)
    )


def add_partitions(world: World, admin: KafkaAdminClient, name: str, count: int) -> None:
    """`kafka-topics --alter`."""
    admin.create_partitions({name: count})
    await_true(lambda: len(admin.describe_topics([name])[0]["partitions"]) == count, "the new partitions")


def saved(world: World) -> dict[tuple[int, str], SavedState]:
    """The newest state of each user, by partition."""
    states: dict[tuple[int, str], SavedState] = {}
    for record in world.records(world.topics.user_state):
        if record.key != STATE_MARKER_KEY:
            place = record.partition, record.key.decode()
            states.pop(place, None)
            if record.value is not None:
                states[place] = messages.user_states.decode(record.value)
    return states


def markers(world: World) -> dict[int, StateMarker]:
    records = world.records(world.topics.user_state)
    return {
        record.partition: messages.state_markers.decode(record.value)
        for record in records
        if record.key == STATE_MARKER_KEY
    }


def without_offsets(world: World) -> dict[str, UserState]:
    """The state of each user, who has one. The offsets are those of the partition."""
    states = saved(world)
    by_user = {user: msgspec.structs.replace(state, next_offset=0) for (_, user), state in states.items()}
    assert len(by_user) == len(states), "a user has states in two partitions"
    assert all(isinstance(state, UserState) for state in by_user.values())
    return by_user  # type: ignore[return-value]


@pytest.fixture(scope="module")
def uninterrupted(bootstrap_servers: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, UserState]:
    """The states that one ranker saves, with four partitions from the beginning."""
    settings = Settings(
        bootstrap_servers=bootstrap_servers,
        topic_prefix=unique_prefix(),
        data_dir=tmp_path_factory.mktemp("reference"),
    )
    with closing(clients.admin(settings)) as admin:
        provision(admin, settings)
    reference = World(settings)
    reference.go_live("r1")
    reference.publish(purchases(AFTER, USERS))
    drained(reference)
    return without_offsets(reference)


def assert_as_if_nothing_had_happened(world: World, uninterrupted: dict[str, UserState]) -> None:
    """Of `AFTER` events: one ranking each, by the slates of a ranker that never stops, and the same states."""
    drained(world)
    rankings = world.rankings()
    assert Counter(ranking.cause.event_id for ranking in rankings) == Counter(
        event.event_id for event in purchases(AFTER, USERS)
    )
    assert slates(rankings) == offline_slates(world, AFTER, users=USERS)
    assert without_offsets(world) == uninterrupted


def test_users_take_their_states_to_the_new_partitions(world: World, uninterrupted: dict[str, UserState]) -> None:
    """To three from two: users also move between partitions that were there before."""
    partitions = 3
    world.go_live("r1")
    world.publish(purchases(BEFORE, USERS))
    drained(world)
    with Process(world.settings, "topics", "repartition", "--partitions", str(partitions)) as command:
        assert command.wait() == 0, command.log.read_text()
        assert f"set partitions={partitions} and item_partitions=2" in command.log.read_text()
    moved = with_partitions(world, partitions)
    assert {place for place in saved(moved)} == {
        (partition_of(f"u{number}".encode(), partitions), f"u{number}") for number in range(USERS)
    }
    assert {(marker.partitions, marker.moving_to) for marker in markers(moved).values()} == {(partitions, 0)}
    assert len(markers(moved)) == partitions
    assert Repartitioning(moved.settings, partitions).run() == RepartitionResult(0, partitions, partitions)
    moved.publish(purchases(AFTER - BEFORE, USERS, first=BEFORE))
    assert_as_if_nothing_had_happened(moved, uninterrupted)


def test_a_move_that_is_killed_in_the_middle_is_finished_by_the_next_run(
    world: World, uninterrupted: dict[str, UserState], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.go_live("r1")
    world.publish(purchases(BEFORE, USERS))
    drained(world)
    monkeypatch.setattr(repartitioning, "USERS_PER_TRANSACTION", 4)

    class Killed(BaseException):
        """As by kill -9: nothing is tidied up."""

    def kill(users: int) -> None:
        raise Killed

    for _ in range(2):
        with pytest.raises(Killed):
            Repartitioning(world.settings, 4, kill).run()
    assert {marker.moving_to for marker in markers(world).values()} == {4}
    with Process(world.settings, "rank", "--drain") as ranker:
        assert ranker.wait() == 1
        assert "being moved to 4 partitions. Run `anabranch topics repartition" in ranker.log.read_text()
    result = Repartitioning(world.settings, 4).run()
    assert 0 < result.moved < USERS
    moved = with_partitions(world, 4)
    moved.publish(purchases(AFTER - BEFORE, USERS, first=BEFORE))
    assert_as_if_nothing_had_happened(moved, uninterrupted)


def test_a_move_that_events_overtook_is_taken_back_and_begun_again(
    world: World, uninterrupted: dict[str, UserState], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.go_live("r1")
    world.publish(purchases(BEFORE, USERS))
    drained(world)
    states = without_offsets(world)
    monkeypatch.setattr(repartitioning, "USERS_PER_TRANSACTION", 4)

    def kill(users: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Repartitioning(world.settings, 4, kill).run()
    world.publish(purchases(80, USERS, first=BEFORE))  # the shop did not wait
    with pytest.raises(
        NotRepartitionable, match=r"80 events are not ranked yet.*take that back first with --partitions 2"
    ):
        Repartitioning(world.settings, 4).run()
    assert Repartitioning(world.settings, 2).run().moved == 4
    assert without_offsets(world) == states
    drained(world)
    Repartitioning(world.settings, 4).run()
    moved = with_partitions(world, 4)
    moved.publish(purchases(80, USERS, first=BEFORE + 80))
    assert_as_if_nothing_had_happened(moved, uninterrupted)


def test_partitions_added_by_hand_stop_running_rankers_and_are_mended_without_a_loss(
    world: World, admin: KafkaAdminClient, uninterrupted: dict[str, UserState]
) -> None:
    """The shop goes on meanwhile, and its events for users who moved wait in the new partitions."""
    world.go_live("r1")
    with Process(world.settings, "rank") as ranker:
        ranker.await_log("restored partition")
        await_true(lambda: ranker.log.read_text().count("restored partition") == 2, "both partitions")
        world.publish(purchases(BEFORE // 2, USERS))
        world.await_rankings(BEFORE // 2)
        add_partitions(world, admin, world.topics.events, 4)
        await_true(lambda: ranker.ended, "the ranker to notice", ranker.log)
        assert ranker.wait() == 1
    remedy = f"{world.topics.events} has 4 partitions, not 2.*rank --drain.*topics repartition --partitions 4"
    assert_one_line(ranker, remedy)
    world.publish(purchases(BEFORE // 2, USERS, first=BEFORE // 2))
    with pytest.raises(TopicsDiffer, match=remedy):
        clients.require_topics(world.settings)
    with pytest.raises(NotRepartitionable, match=r"not every user state|not ranked yet"):
        Repartitioning(world.settings, 4).run()
    drained(world)
    ranked = len(world.rankings())
    assert BEFORE // 2 < ranked < BEFORE, "events in new partitions wait"
    Repartitioning(world.settings, 4).run()
    moved = with_partitions(world, 4)
    clients.require_topics(moved.settings)
    moved.publish(purchases(AFTER - BEFORE, USERS, first=BEFORE))
    assert_as_if_nothing_had_happened(moved, uninterrupted)


def test_users_are_not_moved_while_rankers_run(world: World) -> None:
    world.go_live("r1")
    with Process(world.settings, "rank") as ranker:
        ranker.await_log("restored partition")
        with pytest.raises(NotRepartitionable, match=r"1 processes of group .* are running"):
            Repartitioning(world.settings, 4).run()


def test_users_whose_producer_uses_another_partitioner_are_not_moved(world: World) -> None:
    world.go_live("r1")
    producer = clients.producer(world.settings)
    [event] = purchases(1)
    home = partition_of(event.user_id.encode(), 2)
    value = messages.encode(event)
    producer.send(world.topics.events, value, key=event.user_id.encode(), partition=1 - home).get(timeout=10)
    producer.close()
    drained(world)
    with pytest.raises(NotRepartitionable, match=r"1 users are not where Kafka's default partitioner"):
        Repartitioning(world.settings, 4).run()


def test_partitions_added_to_any_topic_by_hand_have_a_remedy(world: World, admin: KafkaAdminClient) -> None:
    for name in Topics(world.settings).all:
        add_partitions(world, admin, name.name, 4)
    with pytest.raises(TopicsDiffer) as raised:
        clients.require_topics(world.settings)
    lines = raised.value.differences
    assert len(lines) == len(Topics(world.settings).all)
    by_user = {world.topics.name(name) for name in KEYED_BY_USER}
    assert {line.split()[0] for line in lines if "topics repartition" in line} == by_user


def assert_one_line(process: Process, pattern: str) -> None:
    """The process ended with one line that says it, and no traceback."""
    log = process.log.read_text()
    assert "Traceback" not in log
    assert len([line for line in log.splitlines() if re.search(pattern, line)]) == 1, log
