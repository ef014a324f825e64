"""One transaction at a time: publish it, await its commit, find out how it ended, roll back what it held."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import wait
from dataclasses import dataclass

from kafka import TopicPartition

from anabranch.kafka.records import OutboundRecord
from anabranch.metrics import RankerMetrics, Stopwatch
from consumers.ranker.checkpoint import CheckpointCoordinator, CheckpointPlan
from consumers.ranker.clients import RankerClients
from consumers.ranker.partition_task import PartitionTasks, TaskState
from consumers.ranker.pending_transaction import BatchUndo, CommittedTransaction, PendingTransaction
from consumers.runtime.pacing import Backoff
from consumers.runtime.publishers import TransactionAborted
from consumers.user_states.state_store import StateStore

log = logging.getLogger(__name__)

COMMITTED_OFFSET_TIMEOUT_S = 30.0
"""How long to wait for the group's offsets after a transaction whose outcome is not known."""
MIN_OFFSET_TIMEOUT_MS = 200


def _no_records() -> Iterable[OutboundRecord]:
    return ()


def _ignore(committed_at_s: float) -> None:
    """Nothing is counted."""


@dataclass(frozen=True)
class TransactionContent:
    """What a transaction holds besides user states."""

    make_records: Callable[[], Iterable[OutboundRecord]] = _no_records
    """Called in the publishing thread."""
    undo: BatchUndo | None = None
    on_commit: Callable[[float], None] = _ignore
    """Called with the time of the commit, in seconds since 1970."""


class Committer:
    """Publishes a batch while the next is ranked on the user states that it left.

    Should the batch not commit, both are undone, the later one first, and their events are polled again. Whatever else
    would touch user states (a rebalance, a recovery, an eviction, the swap of a release) calls `await_commit` first.
    """

    def __init__(
        self,
        clients: RankerClients,
        topic: str,
        store: StateStore,
        tasks: PartitionTasks,
        checkpoints: CheckpointCoordinator,
        metrics: RankerMetrics,
    ) -> None:
        """`topic` is the one that is consumed."""
        self._clients = clients
        self._topic = topic
        self._store = store
        self._tasks = tasks
        self._checkpoints = checkpoints
        self._metrics = metrics
        self._backoff = Backoff(clients.clock.monotonic)
        self._pending: PendingTransaction | None = None

    @property
    def is_ready(self) -> bool:
        """Whether enough time has passed since the last transaction that was rolled back."""
        return self._backoff.ready

    @property
    def is_pending(self) -> bool:
        """Whether there is a transaction for `await_commit` to end."""
        return self._pending is not None

    def publish(self, plans: Sequence[CheckpointPlan], content: TransactionContent, stopwatch: Stopwatch) -> None:
        """Begin a transaction with this content and the user states as they are now; `await_commit` ends it."""
        assert self._pending is None, "one transaction at a time: await_commit comes first"
        states = list(self._checkpoints.records(self._tasks.checkpoints, plans))
        end_offsets = {plan.partition: plan.events.end for plan in plans}
        offsets = {TopicPartition(self._topic, partition): end for partition, end in end_offsets.items()}
        group_metadata = self._clients.group.group_metadata

        def publish() -> CommittedTransaction:
            lap = stopwatch.start_timer()
            records = [*content.make_records(), *states]
            lap("write")
            record_offsets = self._clients.publisher.publish(records, offsets, group_metadata)
            lap("publish")
            stopwatch.record()
            return CommittedTransaction(list(zip(records, record_offsets, strict=True)), self._clients.clock.wall())

        start_offsets = {partition: self._tasks[partition].next_offset for partition in end_offsets}
        for partition, end in end_offsets.items():
            self._tasks[partition].next_offset = end
        future = self._clients.publish_executor.submit(publish)
        self._pending = PendingTransaction(plans, start_offsets, end_offsets, content.undo, content.on_commit, future)

    def wait(self, timeout_s: float) -> None:
        """Wait for the pending transaction, if there is one, but no longer; `await_commit` sees how it ended."""
        if self._pending is not None:
            wait([self._pending.future], timeout_s)

    def await_commit(self, ranked_since: BatchUndo | None = None) -> bool:
        """Wait for the pending transaction, if there is one; False if it was rolled back.

        A transaction whose answer was lost may have been committed: the group's offsets say. If it was not, nothing of
        it was, and what it did to the user states is undone, after what was `ranked_since`.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return True
        try:
            committed = pending.future.result()
        except TransactionAborted as error:
            log.warning("%s; partitions %s", error, sorted(pending.end_offsets))
            offsets = self._fetch_committed_offsets(pending.end_offsets)
            # Offsets that the transaction would not have moved say nothing about it.
            if offsets != pending.end_offsets or pending.start_offsets == pending.end_offsets:
                self._roll_back(pending, offsets, ranked_since)
                return False
            committed = CommittedTransaction([], self._clients.clock.wall())
        self._backoff.succeeded()
        now = self._clients.clock.monotonic()
        self._checkpoints.on_commit(self._tasks.checkpoints, pending.plans, committed.record_offsets, now)
        self._metrics.states_saved.inc(sum(len(plan.saved_slots) for plan in pending.plans))
        pending.on_commit(committed.committed_at_s)
        return True

    def _fetch_committed_offsets(self, partitions: Iterable[int]) -> dict[int, int | None]:
        """The group's offsets, None for one that stays unknown until `COMMITTED_OFFSET_TIMEOUT_S` have passed."""
        deadline = self._clients.clock.monotonic() + COMMITTED_OFFSET_TIMEOUT_S
        offsets: dict[int, int | None] = {}
        for partition in partitions:
            left_ms = int(1000 * (deadline - self._clients.clock.monotonic()))
            offsets[partition] = self._clients.group.committed_offset(partition, max(MIN_OFFSET_TIMEOUT_MS, left_ms))
        return offsets

    def _roll_back(
        self, pending: PendingTransaction, committed_offsets: Mapping[int, int | None], ranked_since: BatchUndo | None
    ) -> None:
        """Make the user states what they were before the transaction, and have its events polled again.

        A partition whose committed offset is not where the transaction began was moved on by another process: its user
        states are of no use here and are restored.
        """
        self._metrics.aborted.inc()
        self._backoff.failed()
        for undo in (ranked_since, pending.undo):
            if undo is not None:
                undo.apply(self._store.users)
        self._clients.group.pause(self._tasks.running)
        for task in self._tasks:
            if task.state is TaskState.RUNNING:
                task.suspend()
        for partition, offset in committed_offsets.items():
            self._tasks[partition].next_offset = pending.start_offsets[partition]
            if offset != pending.start_offsets[partition]:
                self._tasks.assign(partition)
