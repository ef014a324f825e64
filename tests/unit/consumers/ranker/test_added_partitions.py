"""Somebody adds partitions to a topic while rankers run, or moves users to more partitions before they do."""

from __future__ import annotations

import threading

import pytest
from kafka import TopicPartition
from msgspec.structs import replace

from anabranch import messages
from anabranch.errors import TopicsDiffer
from anabranch.messages import STATE_MARKER_KEY, encode_binary
from tests.support.in_memory_kafka import Outcome
from tests.support.ranker_world import RankerProcess, RankerWorld, purchases


def running(world: RankerWorld) -> RankerProcess:
    process = world.process(checkpoint_ms=0)
    process.settle()
    world.send(*purchases(24))
    return process


def test_partitions_added_to_events_stop_the_ranker_with_the_remedy(world: RankerWorld) -> None:
    process = running(world)
    process.settle()
    process.group.partitions = 4
    with pytest.raises(TopicsDiffer, match=r"events has 4 partitions, not 2.*rank --drain.*repartition --partitions 4"):
        process.ranker.run(threading.Event())
    assert process.group.closed


def test_a_ranker_that_drains_ranks_and_saves_what_is_there_and_ends(world: RankerWorld) -> None:
    process = running(world)
    process.group.partitions = 4
    process.ranker.run(threading.Event(), drain=True)
    assert len(world.slates()) == 24
    assert {user: state.seen for user, state in world.saved_states().items()} == dict.fromkeys(
        ("u0", "u1", "u2", "u3"), 6
    )
    markers = [
        messages.state_markers.decode(record.value or b"")
        for record in world.kafka.records(world.topics.user_state)
        if record.key == STATE_MARKER_KEY
    ]
    assert {marker.offset for marker in markers if marker.offset == 12} == {12}
    assert world.kafka.committed == {0: 12, 1: 12}


def test_draining_does_not_end_before_a_transaction_that_aborted_was_repeated(world: RankerWorld) -> None:
    process = running(world)
    process.publisher.script.append(Outcome.ABORTED)
    assert not process.ranker.is_drained
    while not process.ranker.is_drained:
        world.clock.advance(0.3)
        process.turn()
    assert len(world.slates()) == 24


def test_a_partition_without_events_is_drained_when_its_marker_says_whose_it_is(world: RankerWorld) -> None:
    process = world.process(checkpoint_ms=0)
    process.ranker.run(threading.Event(), drain=True)
    records = world.kafka.records(world.topics.user_state)
    assert [record.partition for record in records if record.key == STATE_MARKER_KEY] == [0, 1]


def test_the_state_of_a_user_who_came_to_an_empty_partition_survives_an_abort(world: RankerWorld) -> None:
    """It holds events of another partition, and none of this one: it is no new user."""
    process = running(world)
    process.ranker.run(threading.Event(), drain=True)
    for partition in (0, 1):
        log = world.kafka.logs[TopicPartition(world.topics.user_state, partition)]
        log[:] = [
            record._replace(value=encode_binary(replace(messages.state_markers.decode(record.value), offset=0)))
            if record.key == STATE_MARKER_KEY
            else record._replace(value=encode_binary(replace(messages.user_states.decode(record.value), next_offset=0)))
            for record in log
        ]
        world.kafka.logs[TopicPartition(world.topics.events, partition)].clear()
        world.kafka.committed[partition] = 0
    successor = world.process()
    successor.settle()
    successor.publisher.script.append(Outcome.ABORTED)
    world.send(*purchases(4, first=24))
    successor.settle()
    successor.stop()
    assert {state.seen for state in world.saved_states().values()} == {7}
