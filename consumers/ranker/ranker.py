"""The ranker: events in, rankings and feedback out, one transaction a batch, around the pure core."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np
from kafka import TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from threadpoolctl import threadpool_limits

from anabranch.kafka.topics import Topics
from anabranch.metrics import RankerMetrics, Stopwatch, release_info
from anabranch.ranking.pipeline import rank
from anabranch.ranking.pipeline.rank import Batch, Ranked
from anabranch.ranking.pipeline.servable import LiveRelease
from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.co_visit_table import NeighbourTable
from anabranch.ranking.types import Slots
from anabranch.ranking.user_state.store import StateLayout, UserStates
from anabranch.ranking.vocabulary import ItemIds, ReleaseNumbers
from anabranch.settings import Settings
from consumers.ranker.changelog import StateLog
from consumers.ranker.checkpoint import Checkpoint, Checkpoints, First, Stretch
from consumers.ranker.metrics_reporter import BatchReport
from consumers.ranker.output import Outcome
from consumers.ranker.pending_transaction import InFlight, InTurn, Moved, Published
from consumers.ranker.recovery import Restore
from consumers.releases.index_rebuild import Rebuilds
from consumers.releases.index_recall import RecallWatch
from consumers.releases.release_watcher import ReleaseFollower
from consumers.releases.updates import Adopt, Change, VectorChange
from consumers.runtime.backoff import Backoff
from consumers.runtime.decoding import Received, decode
from consumers.runtime.group_consumer import Intake
from consumers.runtime.outbound import Outgoing
from consumers.runtime.publishers import AtLeastOnce, Publisher, RolledBack, Transactions
from consumers.runtime.throttle import Every

log = logging.getLogger(__name__)

LOOK_UP_S = 30.0
SWITCH_S = 0.0005
"""How long a thread may keep the interpreter from others: one that publishes would keep those that rank, which need it
for a moment between two long calls, from both cores."""
LAST_CHECKPOINT_S = 2.0
"""How long a process that was told to stop saves states, so that its successor has fewer events to fold."""


@dataclass
class Held:
    """A partition this process holds: the next offset it wants, and whether the states before that are here."""

    since: float
    next: int = 0
    restored: bool = False


class Ranker:
    """One member of the ranker group. All of its work but following releases is done in `run`, by one thread."""

    def __init__(self, settings: Settings, metrics: RankerMetrics) -> None:
        _compute_by_itself()
        self._pool = ThreadPoolExecutor(settings.threads, "rank", initializer=_compute_by_itself)
        self._topics = Topics(settings)
        self._largest = settings.max_message_bytes
        self._metrics = metrics
        self._report = BatchReport(metrics, settings.batch_max)
        self._item_ids, self._releases = ItemIds(), ReleaseNumbers()
        self._states = UserStates(StateLayout.of(settings), dims=1, state_dims=1, room=settings.max_users)
        self._policy = Policy.of(settings)
        self._neighbours = NeighbourTable(self._policy.neighbours)
        self._live: LiveRelease | None = None
        self._held: dict[int, Held] = {}
        self._rebuilds, self._recall = Rebuilds(), RecallWatch(metrics)
        self._waiting_told = Every(10)
        self._backoff = Backoff()

        self._outcome = Outcome(self._topics, self._item_ids, self._releases)
        self._follower = ReleaseFollower(settings, self._item_ids, metrics)
        self._checkpoints = Checkpoints(
            self._topics, self._states, self._item_ids, self._releases, settings.checkpoint_ms / 1000
        )
        self._state_log = StateLog(settings, self._states, self._item_ids, self._releases, metrics)
        self._intake = Intake(settings, self._topics.events)
        self._restore = Restore(
            settings,
            self._states,
            self._state_log,
            self._item_ids,
            self._releases,
            metrics,
            self._intake.committed,
        )
        self._publisher: Publisher
        self._publishing: Executor
        if settings.processing_guarantee == "exactly_once":
            self._publisher = Transactions(settings, settings.group("ranker"))
            self._publishing = ThreadPoolExecutor(1, "publish")
        else:  # it commits through the consumer, which is this thread's alone
            self._publisher = AtLeastOnce(settings, self._intake.commit)
            self._publishing = InTurn()
        self._in_flight: InFlight | None = None

    def run(self, stop: threading.Event) -> None:
        """Rank until told to stop; then the last batch is committed, states are saved and the group is left.

        Raises whatever ended the release follower, and `Fenced`.
        """
        sys.setswitchinterval(SWITCH_S)
        self._follower.start()
        try:
            while not stop.is_set():
                self._follower.check()
                self._follow_rebalance()
                self._apply_changes()
                self._go_on_restoring()
                self._open_partitions()
                records = self._intake.collect(self._published_within)
                self._report.taken(records)
                if records:
                    self._process(records)
                elif self._settle() and self._intake.settled and self._backoff.over:
                    self._checkpoint()
                self._make_room()
                self._report.state(self._states, self._checkpoints.dirty, self._live, self._lag, self._topics.events)
            self._save_what_time_allows()
        finally:
            self._close()

    def _process(self, records: Sequence[ConsumerRecord]) -> None:
        """Decode and rank one batch; publish it once the batch before it is committed, and then, only then, count it.

        It is published beside the ranking of the next, which goes by states that hold it. Should it come to nothing, so
        does what was ranked after it.
        """
        assert self._live is not None, "no partition is open before a release is live"
        release = self._live.manifest.id
        records = [one for one in records if one.offset >= self._held[one.partition].next]  # never back
        if not records:
            return
        watch = Stopwatch(self._metrics.stage)
        passed = watch.begin()
        received, dead = decode(records, self._largest)
        passed("decode")
        ends = {record.partition: record.offset + 1 for record in records}
        stretches = {partition: Stretch(end, end, {}) for partition, end in ends.items()}
        moved = self._rank(received, ends, watch) if received else None
        if moved is not None:
            stretches |= moved.stretches
        ranked, now_ms = moved.ranked if moved is not None else None, int(time.time() * 1000)

        def outgoing() -> Iterator[Outgoing]:
            yield from (letter.outgoing(self._topics.dead_letter) for letter in dead)
            if ranked is not None:
                yield from self._outcome.messages(received, ranked, release, now_ms)

        def count(at: float) -> None:
            self._report.committed(received, dead, ranked, self._releases, at)

        if self._settle(moved):
            self._publish(outgoing, self._checkpoints.plan(stretches, release, time.monotonic()), watch, moved, count)

    def _rank(self, received: Sequence[Received], ends: dict[int, int], watch: Stopwatch) -> Moved:
        assert self._live is not None
        users: dict[int, list[str]] = {}
        for one in received:
            users.setdefault(one.partition, []).append(one.event.user_id)
        for partition, user_ids in users.items():
            self._state_log.recall(user_ids, partition)
        events = [one.event for one in received]
        slots = self._states.slots([event.user_id for event in events], [one.partition for one in received])
        distinct = np.unique(slots)
        before = self._states.copy(distinct)
        batch = Batch.of(events, slots, self._item_ids, [one.appended_ms for one in received])
        ranked = rank.rank(self._live, self._neighbours, self._states, batch, self._policy, watch.begin, self._pool.map)
        self._states.columns.next_offset[slots] = [one.offset + 1 for one in received]
        self._states.touch(distinct)
        self._recall.look(self._live.index.base, self._states.columns.vector, distinct)
        return Moved(distinct, before, ranked, _stretches(received, slots, ranked, ends))

    def _checkpoint(self, at_once: bool = False) -> bool:
        """Save what is due where no events come; whether anything is."""
        plans = self._checkpoints.plan({}, None, time.monotonic(), at_once)
        if plans:
            self._publish(lambda: (), plans, Stopwatch(self._metrics.stage))
        return bool(plans)

    def _save_what_time_allows(self) -> None:
        deadline = time.monotonic() + LAST_CHECKPOINT_S
        while self._settle() and time.monotonic() < deadline and self._intake.settled:
            if not self._checkpoint(at_once=True):
                return

    def _publish(
        self,
        outgoing: Callable[[], Iterable[Outgoing]],
        plans: Sequence[Checkpoint],
        watch: Stopwatch,
        moved: Moved | None = None,
        count: Callable[[float], None] = lambda at: None,
    ) -> None:
        """Begin one transaction, of what `outgoing` makes and of the states as they are now: `_settle` ends it."""
        saved = list(self._checkpoints.messages(plans))
        ends = {plan.partition: plan.stretch.end for plan in plans}
        offsets = {TopicPartition(self._topics.events, partition): end for partition, end in ends.items()}
        membership = self._intake.membership

        def publish() -> Published:
            passed = watch.begin()
            messages = [*outgoing(), *saved]
            passed("write")
            placed = self._publisher.publish(messages, offsets, membership)
            passed("publish")
            watch.tell()
            return Published(list(zip(messages, placed, strict=True)), time.time())

        begins = {partition: self._held[partition].next for partition in ends}
        for partition, end in ends.items():
            self._held[partition].next = end
        self._in_flight = InFlight(plans, begins, ends, moved, count, self._publishing.submit(publish))

    def _published_within(self, seconds: float) -> None:
        """Wait for the transaction in flight, if there is one, but no longer; `_settle` sees how it ended."""
        if self._in_flight is not None:
            wait([self._in_flight.outcome], seconds)

    def _settle(self, later: Moved | None = None) -> bool:
        """Wait for the transaction in flight, if there is one; whether all is committed.

        One whose end was not heard of may have been committed after all: the group's offsets say. If not, nothing of it
        is, and what it moved is undone, after what has been moved `later`.
        """
        flight, self._in_flight = self._in_flight, None
        if flight is None:
            return True
        try:
            messages, at = flight.outcome.result()
        except RolledBack as error:
            log.warning("%s; partitions %s", error, sorted(flight.ends))
            committed = self._look_up(flight.ends)
            if committed != flight.ends or flight.begins == flight.ends:  # offsets that did not move tell nothing
                self._undo(flight, committed, later)
                return False
            messages, at = [], time.time()
        self._backoff.succeeded()
        self._checkpoints.committed(flight.plans, messages, time.monotonic())
        self._metrics.states_saved.inc(sum(len(plan.saved) for plan in flight.plans))
        flight.count(at)
        return True

    def _look_up(self, partitions: Iterable[int]) -> dict[int, int | None]:
        """The group's offsets, as final as they get within a time."""
        deadline = time.monotonic() + LOOK_UP_S
        return {
            partition: self._intake.committed(partition, max(200, int(1000 * (deadline - time.monotonic()))))
            for partition in partitions
        }

    def _undo(self, flight: InFlight, committed: dict[int, int | None], later: Moved | None) -> None:
        """Make the states what they were, and take the events again.

        A partition whose offset is not where the batch began was moved on by another process: its states are of no use
        here, and are restored.
        """
        self._metrics.aborted.inc()
        self._backoff.failed()
        for moved in (later, flight.moved):
            if moved is not None:
                self._take_back(moved)
        for partition in self._intake.is_open:
            self._intake.shut(partition)
        for partition, offset in committed.items():
            self._held[partition].next = flight.begins[partition]
            if offset != flight.begins[partition]:
                self._restore_anew(partition)

    def _take_back(self, moved: Moved) -> None:
        self._states.put_back(moved.slots, moved.before)
        self._states.release(moved.slots[moved.before.columns.next_offset == 0])  # the batch was their users' first

    def _follow_rebalance(self) -> None:
        change = self._intake.rebalanced()
        if change is None:
            return
        self._settle()
        for partition in change.revoked:
            self._let_go(partition)
        for partition in change.assigned:
            self._restore_anew(partition)
        log.info("partitions held: %s", sorted(self._held) or "none")

    def _restore_anew(self, partition: int) -> None:
        self._let_go(partition)
        self._held[partition] = Held(since=time.monotonic())
        self._restore.begin(partition)

    def _let_go(self, partition: int) -> None:
        self._restore.forget(partition)
        self._checkpoints.forget(partition)
        self._states.drop_partition(partition)
        self._held.pop(partition, None)

    def _make_room(self) -> None:
        if self._state_log.is_full:
            self._settle()  # it may be undone, and who is evicted cannot be
            self._state_log.make_room()

    def _go_on_restoring(self) -> None:
        if self._restore.is_under_way:
            self._settle()  # a restore evicts too
        done = self._restore.step(self._live)
        if done is not None:
            self._checkpoints.begin(done.partition, done.progress)
            held = self._held[done.partition]
            held.next, held.restored = done.progress.next, True
            self._metrics.restore_seconds.observe(time.monotonic() - held.since)

    def _open_partitions(self) -> None:
        """Rank from a partition once its states are restored and there is a release to rank by."""
        if self._live is None:
            if self._held and self._waiting_told():
                log.info("waiting for %s", self._follower.awaited)
            return
        if not self._backoff.over:
            return  # a group that refuses this process's offsets will soon tell it of a rebalance
        for partition, held in self._held.items():
            if held.restored and partition not in self._intake.is_open:
                self._intake.open(partition, held.next)

    def _apply_changes(self) -> None:
        """Take what the follower has readied: all of it while nothing is ranked, else one chunk a batch."""
        for change in self._follower.changes(limit=None if self._live is None else 1):
            self._apply(change)
        if self._live is not None:
            self._rebuilds.go_on(self._live.index)

    def _apply(self, change: Change) -> None:
        if isinstance(change, Adopt):
            self._settle()  # what it moved may be undone by arrays of the old release's sizes alone
            self._adopt(change.live)
        elif not isinstance(change, VectorChange):
            change.apply(self._neighbours)
        elif self._live is not None and change.release == self._live.manifest.id:
            change.apply(self._live.index)

    def _adopt(self, live: LiveRelease) -> None:
        """Swap encoder, order and index as one; user states are encoded anew as their users come."""
        manifest = live.manifest
        if self._live is None:
            gc.freeze()  # what is loaded by now stays: the collector went through it with every few batches
        self._live = replace(live, number=self._releases.number(manifest.id))
        self._states.expect(manifest.dims, manifest.state_dims)
        self._metrics.live_release.info(release_info(manifest.id, manifest.strategy, manifest.created))
        self._metrics.releases.inc()
        log.info("release %s ranks from now on, with %d items", manifest.id, len(live.index))
        tell_of_missing_heads(live, self._policy)

    def _lag(self) -> dict[int, int]:
        """Events between what is committed and the end of each log."""
        ends = self._intake.ends(self._held)
        nexts = {partition: held.next for partition, held in self._held.items()} | self._restore.committed
        return {partition: max(0, end - nexts[partition]) for partition, end in ends.items()}

    def _close(self) -> None:
        """All of it, whatever fails; the group first, for others wait for its partitions."""
        with ExitStack() as closing:
            for one in (self._follower, self._state_log, self._restore, self._publisher, self._intake):
                closing.callback(one.close)
            for pool in (self._pool, self._publishing):
                closing.callback(pool.shutdown)


def _compute_by_itself() -> None:
    """FAISS and NumPy would spread each call over all cores; parts of a batch are ranked beside one another instead."""
    threadpool_limits(1)


def tell_of_missing_heads(live: LiveRelease, policy: Policy) -> None:
    """Log what the policy asks for and this release cannot tell: rankings go without it."""
    if policy.purchase and live.purchase is None:
        log.warning("release %s has no purchase head: rankings go without purchase probabilities", live.manifest.id)


def _stretches(received: Sequence[Received], slots: Slots, ranked: Ranked, ends: dict[int, int]) -> dict[int, Stretch]:
    """What was ranked of each partition, and the first event that moved each user."""
    starts: dict[int, int] = {}
    first: dict[int, dict[int, First]] = {}
    for one, slot, duplicate in zip(received, slots.tolist(), ranked.duplicate.tolist(), strict=True):
        starts.setdefault(one.partition, one.offset)
        of_partition = first.setdefault(one.partition, {})
        if not duplicate and slot not in of_partition:
            of_partition[slot] = First(one.offset, one.event.user_id)
    return {partition: Stretch(start, ends[partition], first[partition]) for partition, start in starts.items()}
