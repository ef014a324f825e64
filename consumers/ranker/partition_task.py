"""One partition of `events` in this process, from its assignment to its revocation."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator
from enum import Enum

from anabranch.errors import AnabranchError
from anabranch.kafka.log_bounds import BREAK_REASONS
from anabranch.metrics import RankerMetrics
from anabranch.ranking.user_state.store import UserStates
from consumers.ranker.checkpoint import PartitionCheckpoint
from consumers.runtime.clock import Clock

RecoverySteps = Generator[None, None, PartitionCheckpoint]
"""The recovery of a partition, a step at a time, so that other work gets its turn between two."""


class TaskState(Enum):
    """Where a partition stands in its life: see `PartitionTask`."""

    ASSIGNED = "assigned"
    RESTORING = "restoring"
    SUSPENDED = "suspended"
    RUNNING = "running"
    CLOSED = "closed"


NEXT_STATES = {
    TaskState.ASSIGNED: {TaskState.RESTORING, TaskState.CLOSED},
    TaskState.RESTORING: {TaskState.ASSIGNED, TaskState.SUSPENDED, TaskState.CLOSED},
    TaskState.SUSPENDED: {TaskState.RUNNING, TaskState.CLOSED},
    TaskState.RUNNING: {TaskState.SUSPENDED, TaskState.CLOSED},
    TaskState.CLOSED: set[TaskState](),
}


class IllegalTransition(AnabranchError):
    """A partition was to go from one state to another that does not follow it: a defect of the ranker."""


class PartitionTask:
    """All that a ranker knows of one of its partitions. It is closed with the assignment, and never used again.

        ASSIGNED ──restore_to──► RESTORING ──complete──► SUSPENDED ──resume──► RUNNING
            ▲                        │                       ▲                    │
            └────────restart─────────┘                       └──────suspend───────┘

        close: from any state to CLOSED

    - ASSIGNED: the group has assigned the partition; its committed offset is not known yet, or recovery starts again.
    - RESTORING: user states are restored up to the committed offset.
    - SUSPENDED: user states hold every event before `next_offset`. No record is polled: no release is live yet, or a
      transaction was rolled back.
    - RUNNING: records are polled and ranked.
    """

    def __init__(self, partition: int, assigned_at: float) -> None:
        """`assigned_at` in monotonic seconds."""
        self.partition = partition
        self.assigned_at = assigned_at
        self.state = TaskState.ASSIGNED
        self.next_offset = 0
        """The next event to rank; before it is restored, the offset to restore to, 0 while that is not known."""
        self.checkpoint: PartitionCheckpoint | None = None
        """What the log holds of the user states; None until they are restored."""
        self.recovery: RecoverySteps | None = None
        self.recovery_turn = 0
        """When recovery took its newest step, counted over all partitions: the one that waited longest is next."""

    @property
    def is_saved(self) -> bool:
        """Whether the log of user states holds every event before `next_offset`, by its marker."""
        saved = self.checkpoint
        return (
            saved is not None
            and not saved.dirty
            and saved.marker.offset == self.next_offset
            and saved.marker.partitions > 0
        )

    def restore_to(self, offset: int) -> None:
        """The group's committed offset is known."""
        self._enter(TaskState.RESTORING)
        self.next_offset = offset

    def restart(self) -> None:
        """Recovery has failed and starts again; the caller drops what it had restored."""
        if self.state is TaskState.RESTORING:
            self._enter(TaskState.ASSIGNED)
        self.next_offset = 0
        self._end_recovery()

    def complete(self, checkpoint: PartitionCheckpoint) -> None:
        """User states hold every event before the offset to restore to."""
        self._enter(TaskState.SUSPENDED)
        self.checkpoint = checkpoint
        self._end_recovery()

    def resume(self) -> None:
        """Records are polled from `next_offset` on."""
        self._enter(TaskState.RUNNING)

    def suspend(self) -> None:
        """No more records are polled."""
        if self.state is not TaskState.SUSPENDED:
            self._enter(TaskState.SUSPENDED)

    def close(self) -> None:
        """The partition was revoked, or is given up to be assigned again."""
        self._enter(TaskState.CLOSED)
        self._end_recovery()

    def _enter(self, state: TaskState) -> None:
        if state not in NEXT_STATES[self.state]:
            raise IllegalTransition(f"partition {self.partition} cannot go from {self.state.value} to {state.value}")
        self.state = state

    def _end_recovery(self) -> None:
        if self.recovery is not None:
            self.recovery.close()
            self.recovery = None


class PartitionTasks:
    """The tasks of the partitions that this process is assigned. User states live and go with them."""

    def __init__(self, users: UserStates, metrics: RankerMetrics, clock: Clock) -> None:
        self._users = users
        self._metrics = metrics
        self._clock = clock
        self._tasks: dict[int, PartitionTask] = {}

    def __getitem__(self, partition: int) -> PartitionTask:
        return self._tasks[partition]

    def __iter__(self) -> Iterator[PartitionTask]:
        return iter(self._tasks.values())

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def partitions(self) -> list[int]:
        """The numbers of the partitions, ascending."""
        return sorted(self._tasks)

    @property
    def running(self) -> Collection[int]:
        """The partitions whose records are polled."""
        return {task.partition for task in self if task.state is TaskState.RUNNING}

    @property
    def is_restoring(self) -> bool:
        """Whether the user states of any partition are yet to be restored."""
        return any(task.state in (TaskState.ASSIGNED, TaskState.RESTORING) for task in self)

    @property
    def checkpoints(self) -> dict[int, PartitionCheckpoint]:
        """The checkpoint of each restored partition."""
        return {task.partition: task.checkpoint for task in self if task.checkpoint is not None}

    def assign(self, partition: int) -> None:
        """Start the partition again, without any user state."""
        self.close(partition)
        self._tasks[partition] = PartitionTask(partition, self._clock.monotonic())
        self._metrics.restore_remaining.labels(str(partition)).set(1)
        for reason in BREAK_REASONS:  # from the first scrape on, so that alerts see them grow
            self._metrics.events_lost.labels(str(partition), reason)
            self._metrics.log_breaks.labels(str(partition), reason)

    def close(self, partition: int) -> None:
        """Close a partition's task, if there is one, and forget its user states."""
        task = self._tasks.pop(partition, None)
        if task is None:
            return
        if task.checkpoint is None:
            self._metrics.restore_remaining.remove(str(partition))
        task.close()
        self._users.drop_partition(partition)

    def end_recoveries(self) -> None:
        """Give up what is being restored, as the process ends."""
        for task in self:
            if task.state in (TaskState.ASSIGNED, TaskState.RESTORING):
                task.close()
