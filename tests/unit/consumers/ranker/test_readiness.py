"""When a ranker is ready, and what it says while it is not; which series it exports of which partition."""

from __future__ import annotations

from consumers.ranker.metrics_reporter import LAG_INTERVAL_S
from consumers.ranker.partition_task import TaskState
from tests.support.in_memory_kafka import Outcome
from tests.support.ranker_world import RankerProcess, RankerWorld, purchases


def missing(process: RankerProcess) -> str | None:
    return process.metrics.loop.not_ready


def running(world: RankerWorld, *assigned: int) -> RankerProcess:
    process = world.process(assigned=assigned)
    process.settle()
    world.clock.advance(LAG_INTERVAL_S)
    process.turn()
    return process


def lag(process: RankerProcess, world: RankerWorld, partition: int) -> float | None:
    return process.metric("consumer_lag", topic=world.topics.events, partition=str(partition))


def test_without_a_release_a_ranker_is_not_ready_and_says_what_it_waits_for(world: RankerWorld) -> None:
    process = world.process(release=None)
    process.turn(5)
    assert missing(process) == "waiting for a live release"
    assert process.metric("ready") == 0


def test_a_ranker_is_ready_once_every_partition_is_restored_and_ranked(world: RankerWorld) -> None:
    world.send(*purchases(8))
    process = world.process()
    process.turn()
    assert str(missing(process)).endswith(" is assigned, not yet ranked"), "one step of recovery in a turn"
    process.settle()
    world.clock.advance(LAG_INTERVAL_S)
    process.turn()
    assert {task.state for task in process.ranker.tasks} == {TaskState.RUNNING}
    assert missing(process) is None
    assert process.metric("ready") == 1


def test_a_standby_without_partitions_is_ready(world: RankerWorld) -> None:
    assert missing(running(world)) is None


def test_a_ranker_is_not_ready_during_a_rebalance(world: RankerWorld) -> None:
    process = running(world, 0, 1)
    process.group.poll_batch = lambda *_, **__: process.group.revoke(1) or []  # type: ignore[method-assign, func-returns-value]
    process.turn()
    assert missing(process) == "waiting for the consumer group, which rebalances"


def test_a_ranker_that_is_far_behind_is_not_ready_until_it_has_caught_up(world: RankerWorld) -> None:
    world.settings["ready_max_lag"] = 20
    process = running(world, 0, 1)
    world.send(*purchases(100))
    world.clock.advance(LAG_INTERVAL_S)
    process.turn()
    assert missing(process) == "partition 0 is 46 events behind: more than ready_max_lag, 20"
    process.settle()
    world.clock.advance(LAG_INTERVAL_S)
    process.turn()
    assert missing(process) is None


def test_a_ranker_whose_transactions_are_rolled_back_is_not_ready(world: RankerWorld) -> None:
    process = running(world, 0, 1)
    process.publisher.script.extend([Outcome.ABORTED] * 3)
    world.send(*purchases(8))
    process.turn(2)
    assert missing(process) == "partition 0 is suspended, not yet ranked"


def test_the_lag_of_a_partition_is_exported_by_its_owner_alone(world: RankerWorld) -> None:
    process = running(world, 0, 1)
    world.send(*purchases(100))
    world.clock.advance(LAG_INTERVAL_S)
    process.turn()
    assert lag(process, world, 1)

    process.group.revoke(1)
    process.turn()
    world.clock.advance(LAG_INTERVAL_S)
    process.turn()
    assert lag(process, world, 1) is None
    assert lag(process, world, 0) is not None


def test_a_partition_whose_offset_is_not_known_yet_has_no_lag(world: RankerWorld) -> None:
    """Until then its next offset is 0, and its lag would be the whole log."""
    world.send(*purchases(100))
    world.kafka.committed |= {0: 50, 1: 50}
    process = world.process()
    process.group.withhold_offsets = 10
    process.turn()
    assert {task.state for task in process.ranker.tasks} == {TaskState.ASSIGNED}
    assert lag(process, world, 0) is None


def test_events_of_batches_that_are_rolled_back_are_counted_as_polled_and_not_as_events(world: RankerWorld) -> None:
    process = running(world, 0)
    process.publisher.script.extend([Outcome.ABORTED] * 3)
    world.send(*purchases(2, users=1))
    process.settle()
    polled, events = process.metric("events_polled_total"), process.metric("events_total")
    assert events == 2
    assert polled is not None
    assert polled >= 8, "each time that they were rolled back, and once more"


def test_a_release_has_its_prequential_counters_from_0_on(world: RankerWorld) -> None:
    process = running(world, 0)
    assert process.metric("prequential_events_total", release="r1") == 0
    assert process.metric("prequential_hits_total", release="r1") == 0


def test_every_turn_of_the_loop_is_reported(world: RankerWorld) -> None:
    process = running(world, 0)
    loop = process.metrics.loop
    loop._turned_at -= 1000
    assert loop.stuck is not None
    process.turn()
    assert loop.stuck is None
