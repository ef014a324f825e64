"""Partitions that are assigned, revoked and assigned again, with and without a transaction in flight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from consumers.ranker.batch_ranker import RankedBatch
from consumers.ranker.partition_task import TaskState
from consumers.runtime.decoding import DecodedEvent
from tests.support.in_memory_kafka import Outcome
from tests.support.ranker_world import RankerProcess, RankerWorld, purchases

MAX_POLL_INTERVAL_S = 60


def tasks(process: RankerProcess) -> dict[int, TaskState]:
    return {task.partition: task.state for task in process.ranker.tasks}


def running(world: RankerWorld, *assigned: int) -> RankerProcess:
    process = world.process(assigned=assigned)
    while set(tasks(process).values()) != {TaskState.RUNNING}:
        process.turn()
    return process


def test_a_ranker_without_partitions_publishes_nothing(world: RankerWorld) -> None:
    world.send(*purchases(4))
    process = world.process(assigned=())
    process.turn(10)
    assert process.publisher.publications == []
    assert tasks(process) == {}


def test_a_partition_revoked_between_two_batches_continues_on_its_new_owner(world: RankerWorld) -> None:
    process = running(world, 0, 1)
    world.send(*purchases(8))
    process.settle()
    process.group.revoke(1)
    successor = world.process(assigned=(1,))
    world.send(*purchases(8, first=8))
    process.settle()
    successor.settle()
    assert tasks(process) == {0: TaskState.RUNNING}
    assert tasks(successor) == {1: TaskState.RUNNING}
    assert len(world.slates()) == 16


@pytest.mark.parametrize("partition", [0, 1])
def test_a_partition_revoked_with_a_transaction_in_flight_is_ranked_once(world: RankerWorld, partition: int) -> None:
    process = running(world, 0, 1)
    world.send(*purchases(16))
    process.turn()
    process.group.revoke(partition)  # the group rejects the transaction, which has the previous generation
    successor = world.process(assigned=(partition,))
    process.settle()
    successor.settle()
    assert len(world.slates()) == 16
    assert process.publisher.publications[0].outcome is Outcome.ABORTED


def test_users_of_a_revoked_partition_leave_memory_and_those_of_others_stay(world: RankerWorld) -> None:
    process = running(world, 0, 1)
    world.send(*purchases(8))
    process.settle()
    process.group.revoke(1)
    process.turn()
    users = process.store.users
    assert users.slot_of("u0", 0) is not None
    assert users.slot_of("u1", 1) is None
    assert len(users) == 2


def test_a_partition_that_moves_away_and_back_is_restored_with_what_happened_meanwhile(world: RankerWorld) -> None:
    process = running(world, 0, 1)
    world.send(*purchases(8))
    process.settle()
    process.group.revoke(1)
    process.turn()
    other = world.process(assigned=(1,))
    world.send(*purchases(8, first=8))
    other.settle()
    other.group.revoke(1)
    other.turn()
    process.group.assign(1)
    world.send(*purchases(8, first=16))
    process.settle()
    world.assert_exactly_once(process)


def test_a_partition_revoked_and_assigned_again_between_two_polls_is_restored_again(world: RankerWorld) -> None:
    process = running(world, 0, 1)
    world.send(*purchases(8))
    process.settle()
    process.group.reassign(1)
    process.turn()
    assert tasks(process)[1] in (TaskState.ASSIGNED, TaskState.RESTORING)
    assert tasks(process)[0] is TaskState.RUNNING
    world.send(*purchases(8, first=8))
    world.assert_exactly_once(process)


def test_a_member_removed_from_its_group_publishes_nothing_more(world: RankerWorld) -> None:
    zombie = running(world, 0, 1)
    world.send(*purchases(16))
    zombie.group.be_removed()
    zombie.turn(3)
    assert world.rankings() == []
    successor = world.process()
    successor.settle()
    zombie.group.revoke(0, 1)
    zombie.turn()
    assert tasks(zombie) == {}
    assert len(world.slates()) == 16


def test_a_batch_polled_during_a_rebalance_is_not_ranked(world: RankerWorld) -> None:
    process = running(world, 0, 1)
    world.send(*purchases(4))
    process.group.revoke(1)
    records = process.group.poll_batch({0, 1}, 9, lambda seconds: None)
    assert records == []


def test_a_member_removed_for_a_slow_batch_polls_smaller_ones_and_gets_through(
    world: RankerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would be removed for the same batch again and again, and so would every other member."""
    process = running(world, 0, 1)
    batch_ranker = process.ranker.batch_ranker
    rank, allowed = batch_ranker.rank, len(process.group.limits)

    def rank_slowly(events: Sequence[DecodedEvent], *arguments: Any) -> RankedBatch:
        seconds = 20.0 * len(events)
        world.clock.advance(seconds)
        if seconds > MAX_POLL_INTERVAL_S:
            process.group.be_removed()
            process.group.reassign(0, 1)
        return rank(events, *arguments)

    monkeypatch.setattr(batch_ranker, "rank", rank_slowly)
    world.send(*purchases(8))
    world.assert_exactly_once(process)
    assert process.group.limits[allowed] == 4
    assert process.group.limits[-1] == 1
    assert len(world.slates()) == 8


def test_a_second_partition_is_restored_while_the_first_is_ranked(world: RankerWorld) -> None:
    world.send(*purchases(40))
    running(world, 0, 1).settle()  # it is killed before it saves a state
    process = running(world, 0)
    world.send(*purchases(40, first=40))
    process.group.assign(1)
    while tasks(process).get(1) is not TaskState.RUNNING:
        process.turn()
    assert len(world.rankings()) > 40
    world.assert_exactly_once(process)


def test_recovery_waits_for_the_transaction_in_flight(world: RankerWorld) -> None:
    """Recovery evicts users when memory is full, and an eviction cannot be rolled back."""
    world.send(*purchases(40))
    running(world, 0, 1).settle()
    process = running(world, 0)
    process.group.assign(1)
    process.turn()
    world.send(*purchases(16, first=40))
    process.turn()
    turns_at_commit: list[int] = []
    process.publisher.before_commit = lambda: turns_at_commit.append(process.ranker.tasks[1].recovery_turn)
    turn_before = process.ranker.tasks[1].recovery_turn
    process.turn()
    assert turns_at_commit == [turn_before]
    assert process.ranker.tasks[1].recovery_turn > turn_before


def test_partitions_are_restored_in_turn(world: RankerWorld) -> None:
    first = running(world, 0, 1)
    world.send(*purchases(40))
    first.settle()
    process = world.process()
    seen = set()
    while set(tasks(process).values()) != {TaskState.RUNNING}:
        process.turn()
        seen.add(tuple(tasks(process).values()))
    assert (TaskState.RESTORING, TaskState.RESTORING) in seen


def test_a_partition_revoked_during_its_recovery_is_closed(world: RankerWorld) -> None:
    first = running(world, 0, 1)
    world.send(*purchases(40))
    first.settle()
    process = world.process()
    while tasks(process).get(1) is not TaskState.RESTORING:
        process.turn()
    process.group.revoke(1)
    process.turn()
    assert set(tasks(process)) == {0}
    assert process.metric("restore_remaining", partition="1") is None
    process.turn(60)
    assert tasks(process) == {0: TaskState.RUNNING}


def test_a_partition_whose_offset_is_withheld_waits_for_its_last_owners_transaction(world: RankerWorld) -> None:
    process = world.process(assigned=(0,))
    process.group.withhold_offsets = 5
    process.turn(4)
    assert tasks(process) == {0: TaskState.ASSIGNED}
    world.send(*purchases(4))
    process.settle()
    assert tasks(process) == {0: TaskState.RUNNING}


def test_a_partition_revoked_at_the_moment_it_is_resumed_stays_suspended(world: RankerWorld) -> None:
    process = world.process(assigned=(0,))
    process.group.assigned.clear()
    process.turn(5)
    assert tasks(process) == {0: TaskState.SUSPENDED}
    process.group.revoke(0)
    process.turn()
    assert tasks(process) == {}


def test_records_that_the_client_fetches_again_are_not_ranked_again(world: RankerWorld) -> None:
    process = running(world, 0, 1)
    world.send(*purchases(8))
    process.settle()
    process.group.rewind(0, 1)
    world.send(*purchases(8, first=8))
    world.assert_exactly_once(process)
    assert process.metric("events_ignored_total", reason="duplicate") == 0


def test_the_lag_is_what_is_not_ranked_yet(world: RankerWorld) -> None:
    process = running(world, 0, 1)
    world.send(*purchases(8))
    world.clock.advance(3)
    process.turn()
    assert process.metric("consumer_lag", topic="events", partition="0") == 0, "ranked, and in flight"
    assert process.metric("consumer_lag", topic="events", partition="1") == 4
    process.settle()
    world.clock.advance(3)
    process.turn()
    assert process.metric("consumer_lag", topic="events", partition="1") == 0
