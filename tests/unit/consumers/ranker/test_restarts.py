"""A process ends, and its successor recovers from the topics."""

from __future__ import annotations

import pytest
from kafka import TopicPartition
from kafka.errors import RetriableError
from msgspec.structs import replace

from anabranch.errors import BrokerUnavailable
from anabranch.kafka.records import OutboundRecord
from anabranch.messages import STATE_MARKER_KEY
from anabranch.ranking.user_state import store
from anabranch.ranking.user_state.slot_index import user_keys
from consumers.ranker.dead_letter_offsets import CLOCK_MARGIN_MS
from consumers.ranker.partition_task import TaskState
from consumers.runtime.dead_letter import DeadLetter
from consumers.user_states.changelog import StateMissing
from tests.support.in_memory_kafka import Outcome
from tests.support.ranker_world import RankerProcess, RankerWorld, purchases


def ranked(world: RankerWorld, events: int, **settings: object) -> RankerProcess:
    """A process that has ranked `count` more events."""
    process = world.process(**settings)
    process.settle()
    world.send(*purchases(events, first=len(world.sent)))
    process.settle()
    return process


def test_a_killed_process_without_any_checkpoint_is_replayed_from_the_events(world: RankerWorld) -> None:
    ranked(world, 24)
    assert world.saved_states() == {}
    successor = ranked(world, 24)
    assert successor.metric("restored_events_total") == 24
    world.assert_exactly_once(successor)


def test_feedback_after_a_kill_is_joined_with_the_slates_that_were_published(world: RankerWorld) -> None:
    ranked(world, 4)
    world.send(*purchases(4, first=4))
    world.process().settle()
    assert {entry.release for entry in world.feedback()[-2:]} == {"r1"}


def test_a_checkpoint_leaves_only_the_events_after_it_to_replay(world: RankerWorld) -> None:
    process = ranked(world, 24)
    world.clock.advance(10)
    process.turn(3)
    assert set(world.saved_states()) == {"u0", "u1", "u2", "u3"}
    world.send(*purchases(4, first=24))
    process.settle()
    successor = ranked(world, 4)
    assert successor.metric("restored_events_total") == 4
    world.assert_exactly_once(successor)


def test_events_that_a_saved_state_holds_are_not_replayed_into_it(world: RankerWorld) -> None:
    """More than the window of duplicates holds: u0 is saved with events behind the first of u2, who is not."""
    process = world.process()
    process.settle()
    events = purchases(22, users=1)
    world.send(events[0])
    process.turn(2)
    world.clock.advance(3)
    world.send(replace(events[1], user_id="u2"), *events[2:])
    process.turn(10)
    world.clock.advance(2.5)
    process.turn(3)
    assert set(world.saved_states()) == {"u0"}
    successor = ranked(world, 0)
    assert successor.metric("restored_events_total") == 1
    world.assert_exactly_once(successor)


def test_a_graceful_shutdown_leaves_nothing_to_replay(world: RankerWorld) -> None:
    ranked(world, 24).stop()
    successor = ranked(world, 4)
    assert successor.metric("restored_events_total") == 0
    world.assert_exactly_once(successor)


def test_a_graceful_shutdown_commits_the_batch_in_flight(world: RankerWorld) -> None:
    process = world.process()
    process.settle()
    world.send(*purchases(4))
    process.turn()
    assert world.rankings() == []
    process.stop()
    assert len(world.slates()) == 4


def test_a_final_checkpoint_that_aborts_leaves_the_events_to_replay(world: RankerWorld) -> None:
    process = ranked(world, 24)
    process.publisher.script.append(Outcome.ABORTED)
    process.stop()
    assert world.saved_states() == {}
    successor = ranked(world, 4)
    assert successor.metric("restored_events_total") == 24
    world.assert_exactly_once(successor)


def test_a_read_that_fails_during_recovery_starts_it_again_and_doubles_nothing(world: RankerWorld) -> None:
    ranked(world, 24)
    successor = world.process()
    while len(successor.store.users) < 4:
        successor.turn()
    successor.log_reader.fail_next = 1
    while successor.log_reader.fail_next:
        successor.turn()
    [failed] = [task.partition for task in successor.ranker.tasks if task.state is TaskState.ASSIGNED]
    users = {0: ("u0", "u2"), 1: ("u1", "u3")}[failed]
    assert {successor.store.users.slot_of(user, failed) for user in users} == {None}, (
        "their restored states are dropped"
    )
    world.assert_exactly_once(successor)


def test_recovery_fails_again_and_again_and_then_completes(world: RankerWorld) -> None:
    ranked(world, 24)
    successor = world.process()
    successor.log_reader.fail_next = 6
    world.assert_exactly_once(successor)


def test_states_beyond_the_groups_offset_are_not_used(world: RankerWorld) -> None:
    ranked(world, 24).stop()
    for source in list(world.kafka.logs):
        if source.topic in (world.topics.rankings, world.topics.feedback):
            del world.kafka.logs[source]
    world.kafka.committed = {0: 0, 1: 0}  # an operator reset them: everything is ranked again
    successor = world.process()
    world.assert_exactly_once(successor)


def test_an_event_that_became_a_dead_letter_is_not_replayed(world: RankerWorld) -> None:
    """It was over the size limit then and is not now: no user state holds it."""
    process = world.process(max_message_bytes=1024)
    process.settle()
    long_query = purchases(1)[0].__class__(event_id="long", user_id="u0", type="search", ts=1_000_000, query="q" * 1500)
    world.send(long_query, *purchases(8))
    process.settle()
    assert len(world.kafka.records(world.topics.dead_letter)) == 1
    successor = world.process()
    successor.settle()
    assert successor.metric("restored_events_total") == 8
    assert "long" not in world.slates()


def test_a_recovery_reads_only_dead_letters_that_came_since_the_events_it_replays(world: RankerWorld) -> None:
    ranked(world, 8).stop()
    for _ in range(50):
        world.send_bytes(b"{", "u0")
    process = ranked(world, 0)
    world.clock.advance(10)
    process.turn(3)
    world.kafka.now_ms += 2 * CLOCK_MARGIN_MS
    world.send(*purchases(8, first=8))
    world.send_bytes(b"{", "u1")
    process.settle()
    successor = ranked(world, 0)
    assert successor.metric("restored_events_total") == 8
    assert successor.log_reader.records_read[world.topics.dead_letter] == 1
    successor.turn()
    assert not successor.ranker._recovery._dead_letters.holds(1, 8), "forgotten: nothing is being recovered"


def test_a_dead_letter_of_another_topic_hides_no_event(world: RankerWorld) -> None:
    ranked(world, 8)
    [record, *_] = world.kafka.records(world.topics.events)
    dead_letter = DeadLetter(record._replace(topic=world.topics.items), "invalid", "of the catalogue")
    world.kafka.append(dead_letter.to_record(world.topics.dead_letter))
    successor = ranked(world, 0)
    assert successor.metric("restored_events_total") == 8


def test_evicted_users_are_loaded_again_unchanged(world: RankerWorld) -> None:
    process = world.process(max_users=3)
    process.settle()
    for first in range(0, 120, 12):
        world.send(*purchases(12, users=12, first=first))
        process.settle()
        world.clock.advance(10)
        process.turn(3)
    assert (process.metric("user_states_recalled_total") or 0) > 10
    assert len(process.store.users) <= 12
    world.assert_exactly_once(process)


def test_a_user_whose_state_is_dirty_is_never_evicted(world: RankerWorld) -> None:
    process = ranked(world, 24, max_users=1)
    assert process.metric("user_states_evicted_total") == 0
    assert len(process.store.users) == 4
    world.clock.advance(10)
    process.turn(3)
    assert len(process.store.users) <= 1


def test_an_eviction_waits_for_the_transaction_in_flight(world: RankerWorld) -> None:
    process = ranked(world, 24, max_users=3)
    world.clock.advance(10)
    process.publisher.script.append(Outcome.ABORTED)
    process.turn(2)
    assert process.metric("user_states_evicted_total") == 0
    world.assert_exactly_once(process)


def evicted(world: RankerWorld) -> RankerProcess:
    """A process that has evicted some of its users."""
    process = ranked(world, 24, max_users=1)
    world.clock.advance(10)
    process.turn(3)
    assert process.store.users.evicted >= 3
    return process


def test_an_evicted_state_that_cannot_be_read_ends_the_process_and_its_successor_continues(world: RankerWorld) -> None:
    process = evicted(world)
    world.send(*purchases(8, first=24))
    process.log_reader.fail_next = 1
    with pytest.raises(RetriableError):
        process.settle()
    world.assert_exactly_once(world.process())


def test_an_evicted_state_that_is_not_read_in_time_ends_the_process(
    world: RankerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = evicted(world)
    world.send(*purchases(8, first=24))
    monkeypatch.setattr(process.log_reader, "first_record_from", lambda partition, offset: None)
    with pytest.raises(BrokerUnavailable, match="has no state of an evicted user"):
        process.settle()
    world.assert_exactly_once(world.process())


def test_an_evicted_state_that_is_missing_from_the_topic_is_an_error_with_its_position(world: RankerWorld) -> None:
    process = evicted(world)
    for partition in (0, 1):
        log = world.kafka.logs[TopicPartition(world.topics.user_state, partition)]
        log[:] = [record._replace(key=b"somebody else") for record in log]
    world.send(*purchases(8, first=24))
    published = len(world.rankings())
    with pytest.raises(StateMissing, match=r"user-state, partition \d has no state of an evicted user at offset \d"):
        process.settle()
    assert len(world.rankings()) == published


def compact(world: RankerWorld, written_anew: bool, keeps_tombstones: bool = True) -> None:
    """Every user state is deleted, or written again by a foreign process; then the broker compacts the topic."""
    topic = world.topics.user_state
    for partition in (0, 1):
        newest = {record.key: record.value for record in world.kafka.logs[TopicPartition(topic, partition)]}
        start, marker = world.kafka.end(topic, partition), newest.pop(STATE_MARKER_KEY)
        for key, value in newest.items():
            world.kafka.append(OutboundRecord(topic, key, value if written_anew else None, partition))
        if not keeps_tombstones:
            start = world.kafka.end(topic, partition)
        world.kafka.append(OutboundRecord(topic, STATE_MARKER_KEY, marker, partition))
        world.kafka.trim(topic, partition, start)


@pytest.mark.parametrize("keeps_tombstones", [True, False])
def test_an_evicted_user_whose_state_was_deleted_is_a_new_one(world: RankerWorld, keeps_tombstones: bool) -> None:
    """A broker keeps a tombstone for a day."""
    process = evicted(world)
    compact(world, written_anew=False, keeps_tombstones=keeps_tombstones)
    world.send(*purchases(8, first=24))
    process.settle()
    assert len(world.slates()) == 32


def test_an_evicted_state_that_another_process_wrote_anew_is_an_error(world: RankerWorld) -> None:
    process = evicted(world)
    compact(world, written_anew=True)
    world.send(*purchases(8, first=24))
    with pytest.raises(StateMissing, match="where another process wrote it"):
        process.settle()


def test_a_user_with_the_key_of_an_evicted_one_stops_the_ranker_and_the_next_process_ranks_both(
    world: RankerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = ranked(world, 4, max_users=1)
    world.clock.advance(10)
    process.turn(5)
    evicted = next(user for user in ("u0", "u2") if process.store.users.evicted_among([user], 0))
    other = {"u0": "u4", "u2": "u6"}[evicted]
    with monkeypatch.context() as patched:
        patched.setattr(store, "user_keys", lambda ids: user_keys(evicted if one == other else one for one in ids))
        world.send(replace(purchases(1, first=9)[0], user_id=other))
        with pytest.raises(StateMissing, match=r"another user's state is there\. Start the ranker again"):
            process.settle()
    world.assert_exactly_once(world.process())


def test_without_saved_states_the_marker_alone_tells_which_release_ranked(world: RankerWorld) -> None:
    ranked(world, 4)
    records = world.kafka.records(world.topics.user_state)
    assert {record.key for record in records} == {STATE_MARKER_KEY}


def test_history_before_the_groups_first_offset_is_replayed_and_not_ranked(world: RankerWorld) -> None:
    world.send(*purchases(16))
    world.kafka.committed = {0: 8, 1: 8}
    process = world.process()
    process.settle()
    process.turn(60)
    assert {task.state for task in process.ranker.tasks} == {TaskState.RUNNING}
    assert world.rankings() == []
    assert process.metric("restored_events_total") == 16
    world.send(*purchases(4, first=16))
    process.settle()
    assert len(world.slates()) == 4


def test_recovery_skips_records_on_rankings_that_are_not_rankings(world: RankerWorld) -> None:
    ranked(world, 8)
    world.kafka.append(OutboundRecord(world.topics.rankings, b"u0", b"junk", 0))
    successor = ranked(world, 0)
    assert successor.metric("messages_passed_over_total", topic=world.topics.rankings) == 1
