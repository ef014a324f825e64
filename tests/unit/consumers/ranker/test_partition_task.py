"""The states of a partition, and the transitions between them."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from anabranch.messages import StateMarker
from consumers.ranker.checkpoint import PartitionCheckpoint
from consumers.ranker.partition_task import NEXT_STATES, IllegalTransition, PartitionTask, TaskState

CHECKPOINT = PartitionCheckpoint(StateMarker(offset=0, rankings_offset=0, epochs=[]), next_offset=7, rankings_end=0)


def in_state(state: TaskState) -> PartitionTask:
    task = PartitionTask(3, assigned_at=0.0)
    if state is TaskState.CLOSED:
        task.close()
    if state in (TaskState.RESTORING, TaskState.SUSPENDED, TaskState.RUNNING):
        task.restore_to(7)
    if state in (TaskState.SUSPENDED, TaskState.RUNNING):
        task.complete(CHECKPOINT)
    if state is TaskState.RUNNING:
        task.resume()
    assert task.state is state
    return task


def test_a_partition_is_assigned_restored_suspended_and_running() -> None:
    task = in_state(TaskState.RUNNING)
    assert (task.next_offset, task.checkpoint) == (7, CHECKPOINT)


def test_a_running_partition_is_suspended_and_runs_again() -> None:
    task = in_state(TaskState.RUNNING)
    task.suspend()
    assert task.state is TaskState.SUSPENDED
    task.resume()
    assert task.state is TaskState.RUNNING


def test_recovery_that_starts_again_discards_its_next_offset() -> None:
    task = in_state(TaskState.RESTORING)
    task.restart()
    assert (task.state, task.next_offset) == (TaskState.ASSIGNED, 0)


@pytest.mark.parametrize("state", [state for state in TaskState if state is not TaskState.CLOSED])
def test_a_partition_may_be_closed_in_any_state(state: TaskState) -> None:
    task = in_state(state)
    task.close()
    assert task.state is TaskState.CLOSED


@pytest.mark.parametrize("state", list(TaskState))
def test_an_invalid_transition_is_an_error_that_names_both_states(state: TaskState) -> None:
    steps = {
        TaskState.RESTORING: lambda task: task.restore_to(1),
        TaskState.RUNNING: lambda task: task.resume(),
        TaskState.CLOSED: lambda task: task.close(),
    }
    for target, step in steps.items():
        if target not in NEXT_STATES[state]:
            with pytest.raises(IllegalTransition, match=f"partition 3 cannot go from {state.value} to {target.value}"):
                step(in_state(state))


def test_closing_a_partition_ends_its_recovery() -> None:
    ended = []

    def recovery() -> Generator[None, None, PartitionCheckpoint]:
        try:
            yield
        finally:
            ended.append(True)
        return CHECKPOINT

    task = in_state(TaskState.RESTORING)
    task.recovery = recovery()
    next(task.recovery)
    task.close()
    assert ended and task.recovery is None
