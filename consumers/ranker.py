"""The ranker: events in, rankings and feedback out, one transaction a batch, around the pure core."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import faiss
from kafka import TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from anabranch.metrics import RankerMetrics, Stopwatch, release_info
from anabranch.ranking import core
from anabranch.ranking.candidates import Policy
from anabranch.ranking.core import Batch, Ranked
from anabranch.ranking.item_ids import ItemIds
from anabranch.ranking.live import LiveRelease
from anabranch.ranking.neighbours import NeighbourTable
from anabranch.ranking.state import StateLayout, UserStates
from anabranch.settings import Settings
from anabranch.topics import Topics
from consumers.backoff import Backoff
from consumers.change import Adopt, Change, VectorChange
from consumers.every import Every
from consumers.intake import Intake
from consumers.outcome import Outcome
from consumers.ranker_metrics import BatchReport
from consumers.received import Received, decode
from consumers.release_follower import ReleaseFollower
from consumers.restore import Restore
from consumers.transaction import RolledBack, Transactions

log = logging.getLogger(__name__)


@dataclass
class Held:
    """A partition this process holds: the next offset it wants, and whether the states before that are here."""

    next: int
    restored: bool


class Ranker:
    """One member of the ranker group. All of its work but following releases is done in `run`, by one thread."""

    def __init__(self, settings: Settings, metrics: RankerMetrics) -> None:
        faiss.omp_set_num_threads(settings.threads)  # more would only wait for each other's cores
        self._topics = Topics(settings)
        self._largest = settings.max_message_bytes
        self._metrics = metrics
        self._report = BatchReport(metrics)
        self._item_ids = ItemIds()
        self._states = UserStates(_layout(settings), dims=1, state_dims=1)
        self._neighbours = NeighbourTable()
        self._policy = Policy(slate=settings.slate_size, retrieve=settings.retrieve, discover=settings.discover)
        self._live: LiveRelease | None = None
        self._held: dict[int, Held] = {}
        self._waiting_told = Every(10)
        self._backoff = Backoff()

        self._outcome = Outcome(self._topics, self._item_ids)
        self._follower = ReleaseFollower(settings, self._item_ids, metrics)
        self._restore = Restore(settings, self._topics.events, self._states, self._item_ids, metrics)
        self._transactions = Transactions(settings, settings.group("ranker"))
        self._intake = Intake(settings, self._topics.events)

    def run(self, stop: threading.Event) -> None:
        """Rank until told to stop; then the last batch is committed and the group left.

        Raises whatever ended the release follower, and `Fenced`.
        """
        self._follower.start()
        try:
            while not stop.is_set():
                self._follower.check()
                self._follow_rebalance()
                self._apply_changes()
                self._go_on_restoring()
                self._open_partitions()
                records = self._intake.collect()
                if records:
                    self._process(records)
                self._report.state(self._states, self._live, self._lag, self._topics.events)
        finally:
            self._close()

    def _process(self, records: Sequence[ConsumerRecord]) -> None:
        """Decode, rank, publish and commit one batch; then, and only then, count it."""
        received, dead = decode(records, self._largest)
        outgoing = [letter.outgoing(self._topics.dead_letter) for letter in dead]
        ranked = self._rank(received) if received else None
        if ranked is not None and self._live is not None:
            release = self._live.manifest.id
            outgoing += self._outcome.messages(received, ranked, release, now_ms=int(time.time() * 1000))
        offsets = {record.partition: record.offset + 1 for record in records}
        publishing = Stopwatch(self._metrics.stage)
        try:
            self._transactions.publish(outgoing, self._as_consumed(offsets), self._intake.membership)
        except RolledBack as error:
            self._undo(offsets, error)
            return
        publishing.passed("publish")
        self._backoff.succeeded()
        for partition, offset in offsets.items():
            self._held[partition].next = offset
        self._report.committed(received, dead, ranked, self._outcome.releases)

    def _rank(self, received: Sequence[Received]) -> Ranked:
        assert self._live is not None, "no partition is open before a release is live"
        events = [one.event for one in received]
        slots = self._states.slots([event.user_id for event in events], [one.partition for one in received])
        batch = Batch.of(events, slots, self._item_ids, [one.appended_ms for one in received])
        passed = Stopwatch(self._metrics.stage).passed
        ranked = core.rank(self._live, self._neighbours, self._states, batch, self._policy, passed)
        self._report.recall(self._states, self._live, slots.tolist())
        return ranked

    def _undo(self, offsets: dict[int, int], error: RolledBack) -> None:
        """The states have seen a batch that was not committed: forget them, and restore from what was."""
        log.warning("%s; restoring partitions %s", error, sorted(offsets))
        self._metrics.aborted.inc()
        self._backoff.failed()
        for partition in offsets:
            self._intake.shut(partition)
            self._restore_anew(partition, self._intake.position(partition))

    def _follow_rebalance(self) -> None:
        change = self._intake.rebalanced()
        if change is None or not change.settled:
            return
        for partition in change.revoked - change.assigned:
            self._let_go(partition)
        for partition in change.assigned:
            self._take_on(partition)
        log.info("partitions held: %s", sorted(self._held) or "none")

    def _take_on(self, partition: int) -> None:
        """Restore a partition, unless its states stayed here and nobody else moved its offset meanwhile."""
        offset = self._intake.position(partition)
        held = self._held.get(partition)
        if held is None or held.next != offset:
            self._restore_anew(partition, offset)

    def _restore_anew(self, partition: int, offset: int) -> None:
        self._let_go(partition)
        self._held[partition] = Held(next=offset, restored=False)
        self._restore.begin(partition, offset)

    def _let_go(self, partition: int) -> None:
        self._restore.forget(partition)
        self._states.drop_partition(partition)
        self._held.pop(partition, None)

    def _go_on_restoring(self) -> None:
        for partition in self._restore.step():
            self._held[partition].restored = True

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
        if self._live is not None and self._live.index.needs_rebuild:
            self._live.index.rebuild()

    def _apply(self, change: Change) -> None:
        if isinstance(change, Adopt):
            self._adopt(change.live)
        elif not isinstance(change, VectorChange):
            change.apply(self._neighbours)
        elif self._live is not None and change.release == self._live.manifest.id:
            change.apply(self._live.index)

    def _adopt(self, live: LiveRelease) -> None:
        """Swap encoder, order and index as one; user states are encoded anew as their users come."""
        manifest = live.manifest
        assert live.number == len(self._outcome.releases), "releases are numbered in the order they are adopted"
        self._live = live
        self._outcome.releases.append(manifest.id)
        self._states.expect(manifest.dims, manifest.state_dims)
        self._metrics.live_release.info(release_info(manifest.id, manifest.strategy, manifest.created))
        self._metrics.releases.inc()
        log.info("release %s ranks from now on, with %d items", manifest.id, len(live.index))

    def _lag(self) -> dict[int, int]:
        ends = self._intake.ends(self._held)
        return {partition: max(0, end - self._held[partition].next) for partition, end in ends.items()}

    def _as_consumed(self, offsets: dict[int, int]) -> dict[TopicPartition, int]:
        return {TopicPartition(self._topics.events, partition): offset for partition, offset in offsets.items()}

    def _close(self) -> None:
        self._intake.close()
        self._transactions.close()
        self._restore.close()
        self._follower.close()


def _layout(settings: Settings) -> StateLayout:
    return StateLayout(
        history=settings.history_length,
        own_items=settings.own_items,
        slate=settings.slate_size,
        recent_events=settings.dedupe_window,
    )
