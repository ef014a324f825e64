"""User states of another version, of another ranker group, and of another number of partitions."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from kafka import TopicPartition

from anabranch import messages
from anabranch.kafka.records import OutboundRecord
from anabranch.messages import STATE_MARKER_KEY, StateMarker, UserState, UserStateV1
from consumers.user_states.changelog import StateOfLaterVersion
from consumers.user_states.state_owner import StatesOfOthers
from tests.support.ranker_world import RankerProcess, RankerWorld, purchases


def ranked_and_stopped(world: RankerWorld, events: int = 24, **settings: Any) -> None:
    process = world.process(**settings)
    process.settle()
    world.send(*purchases(events, first=len(world.sent)))
    process.settle()
    process.stop()


def markers(world: RankerWorld) -> list[StateMarker]:
    """The newest of each partition."""
    newest = {
        record.partition: messages.state_markers.decode(record.value or b"")
        for record in world.kafka.records(world.topics.user_state)
        if record.key == STATE_MARKER_KEY
    }
    return [newest[partition] for partition in sorted(newest)]


def fails(process: RankerProcess, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match) as raised:
        process.settle()
    assert "\n" not in str(raised.value)


def test_states_in_the_format_before_are_written_read_and_the_same_as_without_a_break(world: RankerWorld) -> None:
    ranked_and_stopped(world, state_format=1)
    assert {type(state) for state in world.saved_states().values()} == {UserStateV1}
    ranked_and_stopped(world, state_format=1)
    successor = world.process()
    successor.settle()
    world.send(*purchases(24, first=len(world.sent)))
    world.assert_exactly_once(successor)
    assert {type(state) for state in world.saved_states().values()} == {UserState}


def test_a_mixed_fleet_of_formats_ranks_as_one_process_would(world: RankerWorld) -> None:
    for state_format in (2, 1, 2, 1):
        ranked_and_stopped(world, 12, state_format=state_format)
    last = world.process()
    last.settle()
    world.send(*purchases(4, first=len(world.sent)))
    world.assert_exactly_once(last)


@pytest.mark.parametrize("key", [b"u0", STATE_MARKER_KEY])
def test_a_record_of_a_later_version_stops_the_ranker_with_the_remedy(world: RankerWorld, key: bytes) -> None:
    ranked_and_stopped(world)
    later = OutboundRecord(world.topics.user_state, key, msgspec.msgpack.encode([3, 0, "unheard of"]), 0)
    world.kafka.append(later)
    fails(world.process(), StateOfLaterVersion, r"later version of Anabranch, in format 3; .* Run that version")


def test_a_marker_names_the_group_and_the_number_of_partitions(world: RankerWorld) -> None:
    ranked_and_stopped(world)
    assert [(marker.group, marker.partitions) for marker in markers(world)] == [("anabranch-ranker", 2)] * 2


def test_a_second_group_on_the_same_topics_stops_before_it_writes_anything(world: RankerWorld) -> None:
    ranked_and_stopped(world)
    before = {source: len(log) for source, log in world.kafka.logs.items()}
    second = world.process(release=None, ranker_group="second")
    second.go_live()
    fails(
        second, StatesOfOthers, r"group anabranch-ranker, which second would overwrite. Set ranker_group .*topic_prefix"
    )
    after = {source: len(log) for source, log in world.kafka.logs.items()}
    assert {source: count for source, count in after.items() if source.topic != world.topics.releases} == {
        source: count for source, count in before.items() if source.topic != world.topics.releases
    }


def test_states_over_another_number_of_partitions_stop_the_ranker(world: RankerWorld) -> None:
    """As after an operator raised the partitions of all topics by hand, and the setting with them."""
    ranked_and_stopped(world)
    fails(
        world.process(partitions=4),
        StatesOfOthers,
        "spread over 2 partitions and `partitions` is 4.*topics repartition --partitions 4",
    )


def test_a_ranker_that_is_given_only_new_partitions_stops_too(world: RankerWorld) -> None:
    """It would rank the events of users whose states are in other partitions, and move the group's offsets."""
    ranked_and_stopped(world)
    world.kafka.append(OutboundRecord(world.topics.events, b"u5", b"an event", 3))
    fails(
        world.process(partitions=4, assigned=(2, 3)),
        StatesOfOthers,
        "partition 0: users are spread over 2 partitions and `partitions` is 4",
    )
    assert world.kafka.committed.get(3, 0) == 0
    assert world.kafka.end(world.topics.dead_letter, 0) == 0


def test_users_that_are_being_moved_stop_the_ranker(world: RankerWorld) -> None:
    ranked_and_stopped(world)
    for partition, marker in enumerate(markers(world)):
        moving = msgspec.msgpack.encode(msgspec.structs.replace(marker, moving_to=4))
        world.kafka.append(OutboundRecord(world.topics.user_state, STATE_MARKER_KEY, moving, partition))
    for partitions in (2, 4):
        fails(
            world.process(partitions=partitions), StatesOfOthers, "being moved to 4 partitions. Run `anabranch topics"
        )


def test_a_marker_of_a_version_that_named_no_owner_is_taken_over(world: RankerWorld) -> None:
    ranked_and_stopped(world)
    for partition, marker in enumerate(markers(world)):
        log = world.kafka.logs[TopicPartition(world.topics.user_state, partition)]
        old = msgspec.msgpack.encode(msgspec.msgpack.decode(messages.encode_binary(marker))[:4])
        log[:] = [record._replace(value=old) if record.key == STATE_MARKER_KEY else record for record in log]
    assert {(marker.group, marker.partitions) for marker in markers(world)} == {("", 0)}
    successor = world.process()
    successor.settle()
    world.send(*purchases(4, first=len(world.sent)))
    world.assert_exactly_once(successor)
    assert {(marker.group, marker.partitions) for marker in markers(world)} == {("anabranch-ranker", 2)}
