"""Transactions that abort or whose answer is lost, while the next batch is already ranked on their user states."""

from __future__ import annotations

import pytest

from anabranch.errors import Fenced
from consumers.ranker.partition_task import TaskState
from tests.support.in_memory_kafka import Outcome
from tests.support.ranker_world import RankerProcess, RankerWorld, purchases


def states(process: RankerProcess) -> set[TaskState]:
    return {task.state for task in process.ranker.tasks}


def start(world: RankerWorld, events: int = 24) -> RankerProcess:
    """A ranker that is about to poll its first batch."""
    process = world.process()
    while states(process) != {TaskState.RUNNING}:
        process.turn()
    world.send(*purchases(events))
    return process


def test_without_any_failure_every_event_is_ranked_once(world: RankerWorld) -> None:
    process = start(world)
    world.assert_exactly_once(process)
    assert process.metric("transactions_aborted_total") == 0


def test_a_commit_whose_answer_is_lost_is_found_in_the_groups_offsets_and_not_repeated(world: RankerWorld) -> None:
    process = start(world)
    process.publisher.script.append(Outcome.ANSWER_LOST)
    world.assert_exactly_once(process)
    assert process.metric("transactions_aborted_total") == 0, "it was committed after all"


def test_a_transaction_that_did_not_commit_is_published_again(world: RankerWorld) -> None:
    process = start(world)
    process.publisher.script.append(Outcome.ABORTED)
    world.assert_exactly_once(process)
    assert process.metric("transactions_aborted_total") == 1


@pytest.mark.parametrize("outcome", [Outcome.ABORTED, Outcome.ANSWER_LOST])
def test_three_failures_in_a_row_lose_and_double_nothing(world: RankerWorld, outcome: Outcome) -> None:
    process = start(world)
    process.publisher.script.extend([outcome] * 3)
    world.assert_exactly_once(process)


def test_failures_of_every_kind_in_turn_lose_and_double_nothing(world: RankerWorld) -> None:
    process = start(world, events=60)
    kinds = [Outcome.ABORTED, Outcome.COMMITTED, Outcome.ANSWER_LOST, Outcome.OFFSETS_UNKNOWN]
    process.publisher.script.extend(kinds * 4)
    world.assert_exactly_once(process)


def test_a_lost_answer_with_unknown_group_offsets_restores_the_partitions(world: RankerWorld) -> None:
    process = start(world)
    process.publisher.script.append(Outcome.ANSWER_LOST)
    process.turn()
    process.group.withhold_offsets = 2
    process.turn()
    assert TaskState.ASSIGNED in states(process)
    world.assert_exactly_once(process)


def test_an_aborted_transaction_rolls_back_the_batch_ranked_after_it(world: RankerWorld) -> None:
    process = start(world)
    process.publisher.script.append(Outcome.ABORTED)
    process.turn()
    assert len(process.store.users) > 0, "the first batch is ranked, and in flight"
    process.turn()
    assert len(process.publisher.publications) == 1, "the second is never published"
    assert len(process.store.users) == 0, "both batches had their users' first events"
    assert world.rankings() == []


def test_a_user_of_both_batches_is_rolled_back_to_before_the_first(world: RankerWorld) -> None:
    process = start(world, events=0)
    world.send(*purchases(4))
    process.settle()
    slot = process.store.users.slot_of("u0", 0)
    before = process.store.users.columns.vector[slot].copy()
    world.send(*purchases(16, first=4))
    process.publisher.script.append(Outcome.ABORTED)
    process.turn(2)
    assert (process.store.users.columns.vector[slot] == before).all()
    world.assert_exactly_once(process)


def test_an_aborted_batch_is_not_counted_in_event_metrics(world: RankerWorld) -> None:
    process = start(world, events=4)
    process.publisher.script.append(Outcome.ABORTED)
    process.turn(2)
    assert process.metric("events_total") == 0
    process.settle()
    assert process.metric("events_total") == 4


def test_after_an_abort_nothing_is_polled_until_the_backoff_is_over(world: RankerWorld) -> None:
    process = start(world)
    process.publisher.script.append(Outcome.ABORTED)
    process.turn(2)
    assert states(process) == {TaskState.SUSPENDED}
    process.turn(5)
    assert states(process) == {TaskState.SUSPENDED}
    assert len(process.publisher.publications) == 1
    world.clock.advance(0.25)
    process.turn()
    assert states(process) == {TaskState.RUNNING}


def test_the_backoff_doubles_with_each_abort_and_ends_with_a_commit(world: RankerWorld) -> None:
    process = start(world)
    waits = []
    process.publisher.script.extend([Outcome.ABORTED] * 3)
    for _ in range(3):
        while states(process) == {TaskState.RUNNING}:
            process.turn()
        waited = 0.0
        while states(process) != {TaskState.RUNNING}:
            world.clock.advance(0.05)
            waited += 0.05
            process.turn()
        waits.append(waited)
    assert waits == pytest.approx([0.2, 0.4, 0.8], abs=0.11)
    process.settle()
    process.publisher.script.append(Outcome.ABORTED)
    world.send(*purchases(4, first=24))
    process.turn(2)
    world.clock.advance(0.25)
    process.turn()
    assert states(process) == {TaskState.RUNNING}, "the first failure after a commit waits as long as the very first"


def test_a_duplicate_in_an_aborted_batch_is_still_a_duplicate(world: RankerWorld) -> None:
    process = start(world, events=0)
    events = purchases(4)
    world.send(*events, events[0], events[1])
    process.publisher.script.extend([Outcome.COMMITTED, Outcome.ABORTED])
    world.assert_exactly_once(process)
    assert len(world.rankings()) == 4


def test_poison_in_the_middle_of_a_batch_is_a_dead_letter_and_the_others_are_ranked(world: RankerWorld) -> None:
    process = start(world, events=0)
    events = purchases(6)
    world.send(*events[:3])
    world.send_bytes(b"{", "u0")
    world.send(*events[3:])
    process.settle()
    assert set(world.slates()) == {event.event_id for event in events}
    [dead_letter] = world.kafka.records(world.topics.dead_letter)
    assert dead_letter.value == b"{"


def test_poison_in_an_aborted_batch_is_one_dead_letter(world: RankerWorld) -> None:
    process = start(world, events=0)
    world.send(*purchases(2))
    world.send_bytes(b"{", "u0")
    process.publisher.script.append(Outcome.ABORTED)
    process.settle()
    assert len(world.kafka.records(world.topics.dead_letter)) == 1
    assert len(world.slates()) == 2


def test_a_batch_of_poison_alone_commits_its_offsets(world: RankerWorld) -> None:
    process = start(world, events=0)
    for _ in range(3):
        world.send_bytes(b"no event", "u1")
    process.settle()
    assert world.kafka.committed[1] == 3
    assert len(world.kafka.records(world.topics.dead_letter)) == 3


def test_a_batch_of_poison_ranked_behind_an_abort_is_published_once(world: RankerWorld) -> None:
    process = start(world, events=0)
    world.send(*purchases(4, users=1))
    for _ in range(4):
        world.send_bytes(b"no event", "u0")
    process.publisher.script.append(Outcome.ABORTED)
    process.settle()
    assert len(world.kafka.records(world.topics.dead_letter)) == 4
    assert len(world.slates()) == 4


def test_events_that_another_process_committed_are_restored_and_not_ranked_again(world: RankerWorld) -> None:
    process = start(world, events=16)
    process.publisher.script.append(Outcome.ABORTED)
    process.turn()
    world.process().settle()
    process.turn()
    assert TaskState.ASSIGNED in states(process), "its offset is neither where the batch began nor where it ended"
    assert len(process.store.users) == 0
    assert len(world.slates()) == 16


def test_a_checkpoint_that_aborts_is_made_later_and_loses_nothing(world: RankerWorld) -> None:
    process = start(world, events=8)
    process.settle()
    world.clock.advance(10)
    process.publisher.script.append(Outcome.ABORTED)
    process.turn(2)
    assert world.saved_states() == {}
    assert states(process) == {TaskState.SUSPENDED}
    world.clock.advance(10)
    process.turn(3)
    assert set(world.saved_states()) == {"u0", "u1", "u2", "u3"}


def test_a_checkpoint_without_events_whose_answer_is_lost_is_made_again(world: RankerWorld) -> None:
    """It commits no offsets, so the group's offsets do not tell whether it was committed."""
    process = start(world, events=8)
    process.settle()
    world.clock.advance(10)
    process.publisher.script.append(Outcome.ANSWER_LOST)
    process.turn(2)
    assert process.metric("transactions_aborted_total") == 1
    world.clock.advance(10)
    process.turn(3)
    assert process.metric("user_states_dirty") is not None
    assert process.ranker._dirty_users() == 0


def test_states_saved_in_a_transaction_whose_answer_is_lost_are_saved_again(world: RankerWorld) -> None:
    process = start(world, events=8)
    process.settle()
    world.clock.advance(10)
    world.send(*purchases(2, first=8))
    process.publisher.script.append(Outcome.ANSWER_LOST)
    process.turn(2)
    assert process.ranker._dirty_users() == 4, "where they stand in the log is not known"
    world.clock.advance(10)
    process.turn(3)
    assert process.ranker._dirty_users() == 0
    world.assert_exactly_once(process)


def test_a_fenced_publisher_ends_the_ranker_and_nothing_more_is_published(world: RankerWorld) -> None:
    process = start(world)
    process.publisher.script.append(Fenced("another process uses the transactional id"))
    process.turn()
    with pytest.raises(Fenced):
        process.turn()
    assert world.rankings() == []
    process.ranker.close()
    assert process.group.closed and process.publisher.closed and process.releases.closed


def test_after_a_fenced_process_its_successor_ranks_every_event_once(world: RankerWorld) -> None:
    process = start(world)
    process.publisher.script.extend([Outcome.COMMITTED, Fenced("another process uses the transactional id")])
    with pytest.raises(Fenced):
        process.settle()
    world.assert_exactly_once(world.process())
