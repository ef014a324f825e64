"""The ranker: events in, rankings and feedback out, one transaction per batch, around the pure core.

The loop is `Ranker.run_once`, and `Ranker._process` is the walk of one batch:

    group consumer → decoding → batch ranker (the pure core) → output → committer → publisher
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from kafka.consumer.fetcher import ConsumerRecord

from anabranch.errors import TopicsDiffer
from anabranch.kafka.clients import IDLE_WAIT_MS
from anabranch.kafka.partitions import added_to_users
from anabranch.kafka.records import OutboundRecord
from anabranch.kafka.topics import Topics
from anabranch.metrics import RankerMetrics, Stopwatch
from anabranch.settings import Settings
from anabranch.throttle import Throttle
from consumers.ranker.batch_ranker import BatchRanker
from consumers.ranker.checkpoint import AT_LEAST_ONCE_GAP_S, CheckpointCoordinator
from consumers.ranker.clients import RankerClients
from consumers.ranker.committer import Committer, TransactionContent
from consumers.ranker.log_messages import ASSIGNED_PARTITIONS
from consumers.ranker.metrics_reporter import MetricsReporter
from consumers.ranker.output import OutputBuilder
from consumers.ranker.partition_task import PartitionTasks, TaskState
from consumers.ranker.readiness import waits_for
from consumers.ranker.recovery import RecoveryManager
from consumers.releases.release_source import ReleaseSource
from consumers.releases.updates import SwapRelease
from consumers.runtime.compute_threads import switch_threads_often
from consumers.runtime.decoding import decode_events
from consumers.runtime.pacing import BatchLimit
from consumers.user_states.changelog import Changelog
from consumers.user_states.state_owner import StateOwner
from consumers.user_states.state_store import StateStore

log = logging.getLogger(__name__)

FINAL_CHECKPOINT_S = 2.0
"""How long a process that was told to stop saves states, so that its successor has fewer events to replay."""
BUSY_WAIT_MS = 50
"""How long a poll waits for events before other work that is due gets its turn."""
WAITING_LOG_INTERVAL_S = 10.0


class Ranker:
    """One member of the ranker group. One thread does all of its work in `run`, except watching releases."""

    def __init__(
        self,
        settings: Settings,
        store: StateStore,
        clients: RankerClients,
        watcher: ReleaseSource,
        metrics: RankerMetrics,
    ) -> None:
        """The `watcher` and this share the item ids of the `store`. `close` closes the clients too."""
        topics = Topics(settings)
        self._topics = topics
        self._max_message_bytes = settings.max_message_bytes
        self._partitions = settings.partitions
        self._ready_max_lag = settings.ready_max_lag
        self._store = store
        self._clients = clients
        self._watcher = watcher
        self._metrics = metrics
        self._report = MetricsReporter(metrics, settings.batch_max, clients.clock)
        self._batch_limit = BatchLimit(settings.batch_max)
        self._waiting_log_due = Throttle(WAITING_LOG_INTERVAL_S, clients.clock.monotonic)

        self.tasks = PartitionTasks(store.users, metrics, clients.clock)
        self._changelog = Changelog(clients.log_reader, topics.user_state, store, settings.max_users, metrics)
        gap_s = AT_LEAST_ONCE_GAP_S if settings.processing_guarantee == "at_least_once" else 0.0
        owner, interval_s = StateOwner.from_settings(settings), settings.checkpoint_ms / 1000
        self._checkpoints = CheckpointCoordinator(topics, store, interval_s, owner, settings.state_format, gap_s)
        self._committer = Committer(clients, topics.events, store, self.tasks, self._checkpoints, metrics)
        self._recovery = RecoveryManager(settings, clients, store, self._changelog, self.tasks, metrics)
        self.batch_ranker = BatchRanker(settings, store, self._changelog, metrics)
        self.model = self.batch_ranker.model
        self._output = OutputBuilder(topics, store.items, store.releases, store.users.layout.placements)

    def run(self, stop: threading.Event, drain: bool = False) -> None:
        """Rank until `stop` is set; then commit the last batch, save user states and leave the group.

        With `drain` it also ends once every event of the partitions that it knows is ranked and every user state saved.
        Raises `TopicsDiffer` when partitions were added to `events`, unless it drains. Raises what ended the release
        watcher, and `Fenced`, `BrokerFailed`, `BrokerRefused`, `BrokerUnavailable`.
        """
        switch_threads_often()
        self._watcher.start()
        try:
            while not stop.is_set() and not (drain and self.is_drained):
                if not drain:
                    self._refuse_added_partitions()
                self.run_once()
            self.final_checkpoint()
        finally:
            self.close()

    def run_once(self) -> None:
        """One turn of the loop: at most one batch, and a part of whatever else is to be done."""
        self._watcher.raise_failure()
        self._take_rebalance()
        self._apply_updates()
        self._advance_recovery()
        self._resume_partitions()
        records = self._clients.group.poll_batch(
            self.tasks.running, self._batch_limit.records, self._committer.wait, self._poll_timeout_ms()
        )
        self._report.polled(records)
        if records:
            self._process(records)
        elif self._committer.await_commit() and self._clients.group.is_stable and self._committer.is_ready:
            self._checkpoint()
        self._evict_idle_users()
        self._update_items()
        self._report.state(self._store, self._dirty_users(), self.model.live)
        self._report.lag(self._topics.events, self.tasks.partitions, self._lag)
        self._metrics.loop.turned(self._waits_for())

    @property
    def is_drained(self) -> bool:
        """Whether everything up to the ends of the logs is ranked and committed, and every state of it saved."""
        return (
            self._clients.group.is_stable
            and not self._committer.is_pending
            and len(self.tasks.running) == len(self.tasks)
            and self._clients.group.is_at_end(self.tasks.running)
            and all(task.is_saved for task in self.tasks)
        )

    def _refuse_added_partitions(self) -> None:
        """Users whose events go to a new partition would start there without their state."""
        actual = self._clients.group.partitions
        if actual > self._partitions:
            raise TopicsDiffer([added_to_users(self._topics.events, actual, self._partitions)])

    def _poll_timeout_ms(self) -> int:
        """How long to wait for events: long if nothing but an event, a rebalance or an update gives work.

        A ranker without a live release has nothing to resume.
        """
        waits_for_events = self.model.live is None or len(self.tasks.running) == len(self.tasks)
        is_idle = waits_for_events and not self._committer.is_pending and not self._watcher.has_updates
        return IDLE_WAIT_MS if is_idle else BUSY_WAIT_MS

    def _process(self, records: Sequence[ConsumerRecord]) -> None:
        """Decode and rank one batch; publish it once the batch before it is committed.

        It is published while the next batch is ranked, on the user states that this one left. Should it not commit,
        what was ranked on them is undone too. Metrics count a batch after its commit, and only then.
        """
        records = [record for record in records if record.offset >= self.tasks[record.partition].next_offset]
        if not records:  # all of them were ranked before a rebalance rewound the consumer
            return
        started_at = self._clients.clock.monotonic()
        stopwatch = Stopwatch(self._metrics.stage)
        lap = stopwatch.start_timer()
        events, dead_letters = decode_events(records, self._max_message_bytes)
        lap("decode")
        end_offsets = {record.partition: record.offset + 1 for record in records}
        batch = self.batch_ranker.rank(events, end_offsets, stopwatch)
        self._batch_limit.took(len(records), self._clients.clock.monotonic() - started_at)
        release, ranked_at_ms = self.model.release_id, int(self._clients.clock.wall() * 1000)

        def make_records() -> Iterator[OutboundRecord]:
            yield from (letter.to_record(self._topics.dead_letter) for letter in dead_letters)
            yield from self._output.records(events, batch.result, release, ranked_at_ms)

        def on_commit(committed_at_s: float) -> None:
            self._report.committed(events, dead_letters, batch.result, self._store.releases, committed_at_s)

        if self._committer.await_commit(ranked_since=batch.undo):
            now = self._clients.clock.monotonic()
            plans = self._checkpoints.plan(self.tasks.checkpoints, batch.ranges, release, now)
            self._committer.publish(plans, TransactionContent(make_records, batch.undo, on_commit), stopwatch)

    def _checkpoint(self, interval_s: float | None = None) -> bool:
        """Save the user states that are due while no events come; False if none are. `interval_s` 0 saves all."""
        now = self._clients.clock.monotonic()
        plans = self._checkpoints.plan(self.tasks.checkpoints, {}, None, now, interval_s)
        if plans:
            self._committer.publish(plans, TransactionContent(), Stopwatch(self._metrics.stage))
        return bool(plans)

    def final_checkpoint(self) -> None:
        """Commit the batch in hand and save the dirty user states that `FINAL_CHECKPOINT_S` allow."""
        deadline = self._clients.clock.monotonic() + FINAL_CHECKPOINT_S
        while (
            self._committer.await_commit()
            and self._clients.clock.monotonic() < deadline
            and self._clients.group.is_stable
        ):
            if not self._checkpoint(interval_s=0.0):
                return

    def _take_rebalance(self) -> None:
        """Close the tasks of revoked partitions and begin those of assigned ones."""
        rebalance = self._clients.group.take_rebalance()
        if rebalance is None:
            return
        self._committer.await_commit()
        if rebalance.out_of_range:  # what is in memory can no longer be replayed
            self.final_checkpoint()
        for partition in rebalance.revoked:
            self.tasks.close(partition)
        for partition in rebalance.assigned:
            self.tasks.assign(partition)
        log.info("%s%s", ASSIGNED_PARTITIONS, self.tasks.partitions or "none")

    def _apply_updates(self) -> None:
        """Apply what the release watcher has ready: all of it before the first release is live, then one per turn."""
        limit = None if self.model.live is None else 1
        for update in self._watcher.take_updates(limit):
            self._update_items()  # after the update was taken, since it may have the rows of items unnamed so far
            if isinstance(update, SwapRelease):
                self._committer.await_commit()  # its undo has arrays of the old release's sizes
                self.model.swap(update.live)
                self._report.swapped(self.model.release_id)
            else:
                self.model.apply(update)
        self.model.maintain(int(self._clients.clock.wall() * 1000))

    def _advance_recovery(self) -> None:
        if self.tasks.is_restoring:
            self._committer.await_commit()  # recovery evicts users, and an evicted user cannot be undone
            self._recovery.advance(self.model.live, self._watcher.is_unservable)

    def _resume_partitions(self) -> None:
        """Poll the restored partitions, once a release is live."""
        if self.model.live is None:
            if len(self.tasks) and self._waiting_log_due():
                log.info("waiting for %s", self._watcher.waiting_for)
            return
        if not self._committer.is_ready:
            return  # a group that refuses this process's offsets will soon report a rebalance
        for task in self.tasks:
            if task.state is TaskState.SUSPENDED and self._clients.group.resume(task.partition, task.next_offset):
                task.resume()

    def _evict_idle_users(self) -> None:
        if self._changelog.is_full:
            self._committer.await_commit()  # it may have to be undone, and an evicted user cannot be
            self._changelog.evict_idle_users()

    def _update_items(self) -> None:
        if self._store.is_item_update_due:
            self._committer.await_commit()  # its undo has the old numbers of items
            self._store.update_items()

    def _dirty_users(self) -> int:
        return sum(len(checkpoint.dirty) for checkpoint in self.tasks.checkpoints.values())

    def _lag(self) -> dict[int, int]:
        """Events between what is ranked and the end of each partition's log; below 0 if the log lost its end.

        Where the group's offset is not known yet, neither is the lag.
        """
        known = [task.partition for task in self.tasks if task.state is not TaskState.ASSIGNED]
        ends = self._clients.group.end_offsets(known)
        return {partition: end - self.tasks[partition].next_offset for partition, end in ends.items()}

    def _waits_for(self) -> str | None:
        """What is missing before this process ranks what comes; None if nothing is."""
        if self.model.live is None:
            return f"waiting for {self._watcher.waiting_for}"
        if not self._clients.group.is_stable:
            return "waiting for the consumer group, which rebalances"
        return waits_for(self.tasks, self._report.lags, self._ready_max_lag)

    def close(self) -> None:
        """Close everything, whatever fails; the group first, since other members wait for its partitions."""
        with ExitStack() as stack:  # which calls the last one first
            stack.callback(self._watcher.close)
            stack.callback(self.tasks.end_recoveries)
            stack.callback(self.batch_ranker.close)
            stack.callback(self._clients.close)
