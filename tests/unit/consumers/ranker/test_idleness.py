"""A ranker waits long for events only where nothing else is to be done."""

from __future__ import annotations

import numpy as np

from anabranch.kafka.clients import IDLE_WAIT_MS
from anabranch.ranking.retrieval.item_attributes import ItemAttributes
from consumers.ranker.partition_task import TaskState
from consumers.ranker.ranker import BUSY_WAIT_MS
from consumers.releases.updates import ItemVectorUpdate
from tests.support.in_memory_kafka import Outcome
from tests.support.ranker_world import RankerProcess, RankerWorld, purchases
from tests.support.releases import DIMS


def idle(world: RankerWorld, release: str | None = "r1") -> RankerProcess:
    """A ranker that has done everything that there is to do."""
    process = world.process(release)
    process.turn(10)
    return process


def wait_of_next_turn(process: RankerProcess) -> int:
    process.turn()
    return process.group.waits_ms[-1]


def test_a_ranker_that_holds_restored_partitions_waits_long(world: RankerWorld) -> None:
    process = idle(world)
    assert all(task.state is TaskState.RUNNING for task in process.ranker.tasks)
    assert wait_of_next_turn(process) == IDLE_WAIT_MS


def test_a_ranker_without_a_live_release_waits_long(world: RankerWorld) -> None:
    assert wait_of_next_turn(idle(world, release=None)) == IDLE_WAIT_MS


def test_the_turn_after_a_batch_is_short_since_its_commit_is_awaited(world: RankerWorld) -> None:
    process = idle(world)
    world.send(*purchases(2))
    process.turn()
    assert wait_of_next_turn(process) == BUSY_WAIT_MS
    assert wait_of_next_turn(process) == IDLE_WAIT_MS


def test_turns_are_short_while_updates_of_the_index_are_queued(world: RankerWorld) -> None:
    process = idle(world)
    vectors = np.zeros((1, DIMS), np.float32)
    row, hashes, none = np.array([0], np.int32), np.array([7], np.uint64), ItemAttributes.none(1)
    for _ in range(3):
        update = ItemVectorUpdate("r1", row, vectors, np.array([True]), np.array([], np.int32), hashes, none)
        process.releases.updates.append(update)
    assert [wait_of_next_turn(process) for _ in range(3)] == [BUSY_WAIT_MS, BUSY_WAIT_MS, IDLE_WAIT_MS]


def test_turns_are_short_while_a_partition_is_yet_to_be_resumed(world: RankerWorld) -> None:
    process = idle(world)
    process.publisher.script.append(Outcome.ABORTED)
    world.send(*purchases(2))
    process.turn(2)
    assert any(task.state is TaskState.SUSPENDED for task in process.ranker.tasks), "it backs off after the abort"
    assert wait_of_next_turn(process) == BUSY_WAIT_MS
