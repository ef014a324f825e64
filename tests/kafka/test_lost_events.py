"""Logs of `events` that lost what the ranker group needs of them, and a group whose offsets expire, on real brokers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient

from anabranch.harness.environment.broker import Broker, start_broker
from anabranch.harness.environment.cluster import Cluster, start_cluster
from anabranch.kafka import clients, offsets
from anabranch.kafka.topics import Topics, provision
from anabranch.messages import Event
from anabranch.settings import Settings
from tests.kafka.world import Process, Scrape, World, await_true
from tests.kafka.world import purchases as purchases_of

CONTINUE = ("--set", "on_lost_events=continue")
NO_CHECKPOINT = ("--set", "checkpoint_ms=86400000")
"""While a topic is gone, the broker refuses transactions with its offsets, and a ranker gives up after some of them."""


@pytest.fixture
def world(settings: Settings, topics: Topics) -> World:
    return World(settings)


def purchases(count: int) -> list[Event]:
    """Of enough users for every partition to have some."""
    return purchases_of(count, users=12)


def rank_and_stop(world: World, events: list[Event]) -> None:
    """A ranker that ranks the events, saves every state and ends."""
    with Process(world.settings, "rank", "--start", "earliest") as ranker:
        world.publish(events)
        world.await_rankings(len(events))
        assert ranker.terminate() == 0


def ranked(world: World) -> list[str]:
    return sorted(ranking.cause.event_id for ranking in world.rankings())


def ids(events: list[Event]) -> list[str]:
    return sorted(event.event_id for event in events)


def lost(scrape: Scrape, name: str, reason: str) -> float:
    samples = scrape()
    return sum(value for (sample, labels), value in samples.items() if sample == name and ("reason", reason) in labels)


def trim_to_end(admin: KafkaAdminClient, world: World) -> dict[int, int]:
    """Delete every event that the log holds; how many of each partition were not ranked."""
    ends = offsets.ends(world.settings, world.topics.events)
    held = offsets.committed(world.settings)
    admin.delete_records({TopicPartition(world.topics.events, number): end for number, end in ends.items()})
    return {number: end - held[number] for number, end in ends.items()}


def recreate(admin: KafkaAdminClient, settings: Settings) -> None:
    """Delete `events` and create it again."""
    name = Topics(settings).events
    admin.delete_topics([name])
    await_true(lambda: name not in admin.list_topics(), "the topic to be gone")
    provision(admin, settings)


def test_a_topic_that_was_trimmed_beyond_the_committed_offset_is_told_and_counted(
    world: World, admin: KafkaAdminClient
) -> None:
    world.go_live("r1")
    events = purchases(260)
    rank_and_stop(world, events[:100])
    world.publish(events[100:160])
    deleted = sum(trim_to_end(admin, world).values())
    assert deleted == 60
    world.publish(events[160:200])
    with Process(world.settings, "rank") as ranker:
        assert ranker.wait() == 1
        line = ranker.log.read_text().splitlines()[-1]
        assert line.startswith(f"anabranch: {world.topics.events}, partition ")
        assert "events were deleted before they were ranked" in line and "on_lost_events=continue" in line
    assert len(world.rankings()) == 100
    with Process(world.settings, *CONTINUE, "rank", "--metrics-port", "0") as ranker:
        scrape = Scrape.of(ranker)
        world.await_rankings(140)
        assert lost(scrape, "anabranch_events_lost_total", "trimmed") == 60
        assert lost(scrape, "anabranch_log_breaks_total", "trimmed") == 2
        world.publish(events[200:230])
        world.await_rankings(170)
        assert ranker.terminate() == 0
    with Process(world.settings, "rank", "--metrics-port", "0") as ranker:  # to which nothing is lost any more
        world.publish(events[230:])
        world.await_rankings(200)
        assert ranker.terminate() == 0
    assert ranked(world) == ids(events[:100] + events[160:])


def test_a_log_that_is_trimmed_under_a_running_ranker_is_judged_and_not_skipped(
    world: World, admin: KafkaAdminClient
) -> None:
    world.go_live("r1")
    events = purchases(190)
    with Process(world.settings, *CONTINUE, "rank", "--start", "earliest", "--metrics-port", "0") as ranker:
        scrape = Scrape.of(ranker)
        world.publish(events[:100])
        world.await_rankings(100)
        ranker.signal(signal.SIGSTOP)  # it falls behind
        world.publish(events[100:130])  # some of which a fetch that was waiting brings it
        world.publish(events[130:160])
        trim_to_end(admin, world)
        world.publish(events[160:])
        ranker.signal(signal.SIGCONT)
        await_true(lambda: set(ids(events[160:])) <= set(ranked(world)), "what was not deleted", ranker.log)
        missing = len(events) - len(world.rankings())
        assert missing >= 30
        assert lost(scrape, "anabranch_events_lost_total", "trimmed") == missing
        assert ranker.terminate() == 0
    assert set(ranked(world)) >= set(ids(events[:100] + events[160:]))
    assert len(set(ranked(world))) == len(ranked(world))


@pytest.mark.parametrize("new_events", [20, 150])
def test_a_topic_that_was_created_again_is_told_by_its_id_and_ranked_from_its_start(
    world: World, admin: KafkaAdminClient, new_events: int
) -> None:
    world.go_live("r1")
    events = purchases(100 + new_events + 30)
    rank_and_stop(world, events[:100])
    recreate(admin, world.settings)
    world.publish(events[100 : 100 + new_events])
    with Process(world.settings, "rank") as ranker:
        assert ranker.wait() == 1
        assert "it is a new topic of that name" in ranker.log.read_text().splitlines()[-1]
    with Process(world.settings, *CONTINUE, "rank", "--metrics-port", "0") as ranker:
        world.await_rankings(100 + new_events)
        assert lost(Scrape.of(ranker), "anabranch_log_breaks_total", "recreated") == 2
        ranker.kill()
    with Process(world.settings, "rank") as ranker:
        world.publish(events[100 + new_events :])
        world.await_rankings(len(events))
        assert ranker.terminate() == 0
    assert ranked(world) == ids(events)


def test_a_topic_that_is_created_again_under_a_running_ranker_is_noticed(world: World, admin: KafkaAdminClient) -> None:
    world.go_live("r1")
    events = purchases(300)
    with Process(
        world.settings, *CONTINUE, *NO_CHECKPOINT, "rank", "--start", "earliest", "--metrics-port", "0"
    ) as ranker:
        scrape = Scrape.of(ranker)
        world.publish(events[:100])
        world.await_rankings(100)
        recreate(admin, world.settings)
        world.publish(events[100:])  # more than the old topic had
        await_true(lambda: lost(scrape, "anabranch_log_breaks_total", "recreated") == 2, "both breaks", ranker.log)
        world.await_rankings(300)
        assert ranker.terminate() == 0
    assert ranked(world) == ids(events)


# --- a broker of its own ----------------------------------------------------------------------------------------------


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Cluster]:
    """One node, which a test may kill."""
    with start_cluster(1, tmp_path / "node") as cluster:
        yield cluster


def test_a_log_that_lost_its_end_with_the_power_of_its_only_broker_stops_the_ranker(
    node: Cluster, tmp_path: Path, topic_prefix: str
) -> None:
    """What the operating system had not written is gone after a power loss: the end of the segment is cut off."""
    settings = Settings(
        bootstrap_servers=node.bootstrap_servers, topic_prefix=topic_prefix, data_dir=tmp_path, partitions=1
    )
    with closing(clients.admin(settings)) as admin:
        provision(admin, settings)
    world = World(settings)
    world.go_live("r1")
    events = purchases(160)
    for start in range(0, 100, 20):  # batches of their own: a log is cut at the end of one
        world.publish(events[start : start + 20])
    with Process(settings, "rank", "--start", "earliest") as ranker:
        world.await_rankings(100)
        assert ranker.terminate() == 0
    node.kill(1)
    [segment] = (tmp_path / "node").rglob(f"{world.topics.events}-0/*.log")
    os.truncate(segment, segment.stat().st_size * 2 // 3)
    node.restart(1)
    [end] = offsets.ends(settings, world.topics.events).values()
    assert 0 < end < 100
    with Process(settings, "rank") as ranker:
        assert ranker.wait() == 1
        line = ranker.log.read_text().splitlines()[-1]
        assert f"holds offsets 0 up to {end}, and the group's position in it is 100" in line
    with Process(settings, *CONTINUE, "rank") as ranker:
        world.publish(events[100:130])  # at offsets that other events had
        world.await_rankings(130)
        ranker.kill()
    with Process(settings, "rank") as ranker:
        world.publish(events[130:])
        world.await_rankings(160)
        assert ranker.terminate() == 0
    assert ranked(world) == ids(events)


@pytest.fixture
def forgetful_broker(tmp_path: Path) -> Iterator[Broker]:
    """It forgets the offsets of a group that has been empty for a minute."""
    properties = {"offsets.retention.minutes": 1, "offsets.retention.check.interval.ms": 1000}
    with start_broker(tmp_path / "broker", properties) as broker:
        yield broker


@pytest.mark.timeout(400)
def test_a_group_whose_offsets_have_expired_goes_on_where_it_was(
    forgetful_broker: Broker, tmp_path: Path, topic_prefix: str
) -> None:
    settings = Settings(
        bootstrap_servers=forgetful_broker.bootstrap_servers, topic_prefix=topic_prefix, data_dir=tmp_path, partitions=2
    )
    with closing(clients.admin(settings)) as admin:
        provision(admin, settings)
    world = World(settings)
    world.go_live("r1")
    events = purchases(100)
    with Process(settings, "rank", "--start", "earliest") as ranker:
        world.publish(events[:60])
        world.send(world.topics.events, b"u0", b"no event")
        world.await_rankings(60)
        await_true(lambda: len(world.records(world.topics.dead_letter)) == 1, "the dead letter")
        ranker.kill()  # with events that no saved state has
    world.publish(events[60:80])
    forgotten_at = time.monotonic() + 180
    while offsets.committed(settings):
        assert time.monotonic() < forgotten_at, "the broker keeps the offsets"
        time.sleep(2)
    with Process(settings, "rank") as ranker:  # whose --start is latest
        assert "goes on at offset" in ranker.await_log("has expired or was deleted")
        world.await_rankings(80)
        world.publish(events[80:])
        world.await_rankings(100)
        assert ranker.terminate() == 0
    assert ranked(world) == ids(events)
    assert len(world.records(world.topics.dead_letter)) == 1
