"""Recovery of a partition: its saved user states, the events after them, and the slates that those events led to."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import NamedTuple

import numpy as np
from kafka import TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import RetriableError

from anabranch import messages
from anabranch.errors import BrokerUnavailable
from anabranch.kafka.log_reader import PartitionReader
from anabranch.kafka.topics import Topics
from anabranch.messages import StateMarker
from anabranch.metrics import RankerMetrics
from anabranch.ranking.event_batch import EventBatch
from anabranch.ranking.pipeline.servable import ServableRelease
from anabranch.ranking.pipeline.user_update import replay
from anabranch.release_notices import ReleaseNotices
from anabranch.settings import Settings
from consumers.ranker.changelog import Changelog
from consumers.ranker.checkpoint import DirtyUser, PartitionCheckpoint
from consumers.ranker.clients import RankerClients
from consumers.ranker.dead_letter_offsets import DeadLetterOffsets
from consumers.ranker.log_messages import RESTORED_PARTITION
from consumers.ranker.partition_task import PartitionTask, PartitionTasks, RecoverySteps, TaskState
from consumers.ranker.state_owner import StateOwner
from consumers.ranker.state_store import StateStore
from consumers.runtime.decoding import DecodedEvent, decode_events, decode_own
from consumers.runtime.pacing import Backoff, Throttle

log = logging.getLogger(__name__)

REPLAY_EVENTS = 512
"""Events replayed at once: the states of users who were evicted are loaded one by one."""
LOG_INTERVAL_S = 5.0
RELEASE_CHECK_INTERVAL_S = 2.0
NO_MARKER = StateMarker(offset=0, rankings_offset=0, epochs=[])
RECOVERING = (TaskState.ASSIGNED, TaskState.RESTORING)
Steps = Generator[None, None, None]


class ReplaySegment(NamedTuple):
    """Events from `start` up to `end` that one release ranked, or none did."""

    start: int
    end: int
    release: str | None


class RecoveryManager:
    """Restores partitions in turn, one cooperative step after the other, between the batches of the main loop."""

    def __init__(
        self,
        settings: Settings,
        clients: RankerClients,
        store: StateStore,
        changelog: Changelog,
        tasks: PartitionTasks,
        metrics: RankerMetrics,
    ) -> None:
        self._topics = Topics(settings)
        self._owner = StateOwner.from_settings(settings)
        self._max_message_bytes = settings.max_message_bytes
        self._clients = clients
        self._store = store
        self._changelog = changelog
        self._tasks = tasks
        self._metrics = metrics
        self._dead_letters = DeadLetterOffsets(clients.log_reader, self._topics)
        self._notices = ReleaseNotices()
        self._next_notice: dict[int, int] = {}
        """By partition of topic `releases`, the offset of the first record that was not read."""
        self._backoff = Backoff(clients.clock.monotonic)
        self._log_due = Throttle(LOG_INTERVAL_S, clients.clock.monotonic)
        self._turn = 0
        self._live: ServableRelease | None = None
        self._is_unservable: Callable[[str], bool] = lambda name: False

    def advance(self, live: ServableRelease | None, is_unservable: Callable[[str], bool] = lambda name: False) -> None:
        """Take one step in the recovery of the partition that has waited longest, if any is to be restored.

        `is_unservable` says of an announced release whether it cannot serve in this process.
        """
        self._live, self._is_unservable = live, is_unservable
        waiting = [task for task in self._tasks if task.state in RECOVERING]
        if not waiting or not self._backoff.ready:
            return
        task = min(waiting, key=lambda task: task.recovery_turn)
        self._turn += 1
        task.recovery_turn = self._turn
        if task.recovery is None:
            task.recovery = self._recover(task)
        try:
            next(task.recovery)
        except (RetriableError, BrokerUnavailable) as error:
            log.warning("recovery of partition %d starts again: %s", task.partition, error)
            self._backoff.failed()
            self._store.users.drop_partition(task.partition)
            task.restart()
        except StopIteration as end:
            self._backoff.succeeded()
            task.complete(end.value)
            self._metrics.restore_remaining.labels(str(task.partition)).set(0)
            self._metrics.restore_seconds.observe(self._clients.clock.monotonic() - task.assigned_at)

    def _recover(self, task: PartitionTask) -> RecoverySteps:
        """Yields between steps. The order of the steps is what makes recovery exact.

        First the group's offset, which is final: the broker withholds it while an open transaction may move it. Then
        the ends of `user-state` and `rankings` as of after that, records of open transactions included: everything up
        to there is read, so that all that the offset's own transaction wrote is.
        """
        started_at = self._clients.clock.monotonic()
        while (offset := self._clients.group.committed_offset(task.partition)) is None:
            yield
        task.restore_to(offset)
        user_state, events, rankings = (
            TopicPartition(topic, task.partition)
            for topic in (self._topics.user_state, self._topics.events, self._topics.rankings)
        )
        ends = self._clients.log_reader.high_watermarks([user_state, rankings])
        with closing(self._clients.log_reader.partition_reader()) as reader:
            marker = yield from self._load_states(reader, user_state, ends[user_state], offset)
            dirty: dict[int, DirtyUser] = {}
            segments = missing_segments(marker, offset)
            if segments:
                yield from self._dead_letters.catch_up()
            for segment in segments:
                yield from self._replay(reader, events, segment, dirty)
            yield from self._restore_last_slates(reader, rankings, marker.rankings_offset, ends[rankings])
        log.info(
            "%s %d in %.2f s: %d users in memory, events %d to %d replayed",
            RESTORED_PARTITION,
            task.partition,
            self._clients.clock.monotonic() - started_at,
            len(self._store.users),
            marker.offset,
            offset,
        )
        return PartitionCheckpoint(
            marker=marker,
            next_offset=offset,
            rankings_end=ends[rankings],
            dirty=dirty,
            marker_written_at=self._clients.clock.monotonic(),
        )

    def _load_states(
        self, reader: PartitionReader, partition: TopicPartition, end: int, committed_offset: int
    ) -> Generator[None, None, StateMarker]:
        """Load saved states up to `end`; the newest marker.

        States that hold events beyond the group's offset (somebody set it back) cannot be wound back: they are not
        used, and the events that the log still has are replayed instead.
        The release that ranked last may be one that this process is only loading. The states it encoded are of no use
        to any other release, so they are read once more when it is live here.
        """
        while True:
            while self._live is None:
                yield
            marker, max_next_offset = NO_MARKER, 0
            for records in self._chunks(reader, partition, 0, end):
                loaded = self._changelog.load(partition.partition, records)
                marker = loaded.marker or marker
                max_next_offset = max(max_next_offset, loaded.max_next_offset)
                self._changelog.evict_idle_users()
                yield
            if marker is NO_MARKER:  # a partition that is new to these users, if another one has a marker
                yield from self._require_own_neighbours(reader, partition)
            self._owner.require(marker, partition)
            if max(max_next_offset, marker.offset) > committed_offset:
                log.warning(
                    "partition %d: user states go beyond the group's offset %d and are not used",
                    partition.partition,
                    committed_offset,
                )
                self._store.users.drop_partition(partition.partition)
                return NO_MARKER
            ranked_by = marker.epochs[-1].release if marker.epochs else None
            if ranked_by in (None, self._live.manifest.id) or not self._will_serve(ranked_by):
                return marker
            log.info("partition %d was last ranked by release %s: waiting for it", partition.partition, ranked_by)
            yield from self._wait_for_release(str(ranked_by))
            self._store.users.drop_partition(partition.partition)

    def _require_own_neighbours(self, reader: PartitionReader, partition: TopicPartition) -> Steps:
        """Raise `StatesOfOthers` if the newest marker of another partition is not of these rankers. One is enough."""
        others = [
            TopicPartition(partition.topic, number)
            for number in range(self._owner.partitions)
            if number != partition.partition
        ]
        ends = self._clients.log_reader.high_watermarks(others)
        for source in others:
            marker = None
            for records in reader.read(source, 0, ends[source]):
                marker = self._changelog.newest_marker(records) or marker
                yield
            if marker is not None:
                return self._owner.require(marker, source)

    def _wait_for_release(self, release: str) -> Steps:
        """Until the release is live here, or will not be: another has been announced, or it cannot serve here."""
        is_check_due = Throttle(RELEASE_CHECK_INTERVAL_S, self._clients.clock.monotonic)
        while self._live is not None and self._live.manifest.id != release:
            if is_check_due() and not self._will_serve(release):
                return
            yield

    def _will_serve(self, release: str) -> bool:
        """Whether a release is announced live and may yet be loaded here."""
        return release == self._announced_release() and not self._is_unservable(release)

    def _announced_release(self) -> str | None:
        """The id of the live release by its notices, which this process may not have loaded yet.

        Reads the notices that came since the last call.
        """
        for record in self._clients.log_reader.read_from(self._topics.releases, self._next_notice):
            self._next_notice[record.partition] = record.offset + 1
            read = decode_own(messages.releases, bytes.decode, record, self._metrics)
            if read is not None and read[1] is not None:
                self._notices.add(read[1])
        return None if self._notices.live is None else self._notices.live.release

    def _replay(
        self, reader: PartitionReader, partition: TopicPartition, segment: ReplaySegment, dirty: dict[int, DirtyUser]
    ) -> Steps:
        """Apply events without publishing; those that the live release ranked move the encoder as they did then.

        A state that another release encoded is encoded again by the live one at its user's next event, as it would have
        been without a break.
        """
        for records in self._chunks(reader, partition, segment.start, segment.end):
            readable = (
                record for record in records if not self._dead_letters.holds(partition.partition, record.offset)
            )
            events, _ = decode_events(readable, self._max_message_bytes)
            live = self._live if self._live is not None and segment.release == self._live.manifest.id else None
            for start in range(0, len(events), REPLAY_EVENTS):
                self._replay_events(partition.partition, events[start : start + REPLAY_EVENTS], live, dirty)
                yield
            yield

    def _replay_events(
        self, partition: int, events: Sequence[DecodedEvent], live: ServableRelease | None, dirty: dict[int, DirtyUser]
    ) -> None:
        users = self._store.users
        user_ids = [event.event.user_id for event in events]
        self._changelog.load_evicted(user_ids, partition)
        slots = users.slots(user_ids, partition)
        offsets = np.array([event.offset for event in events], np.int64)
        is_missing = offsets >= users.columns.next_offset[slots]  # the others are in their users' saved states
        slots, offsets = slots[is_missing], offsets[is_missing]
        if len(slots) == 0:
            return
        events = [event for event, missing in zip(events, is_missing.tolist(), strict=True) if missing]
        appended_ms = [event.appended_ms for event in events]
        replay(
            users,
            EventBatch.from_events([event.event for event in events], slots, self._store.items, appended_ms),
            live,
        )
        users.columns.next_offset[slots] = offsets + 1
        users.columns.dirty[slots] = True
        users.touch(slots)
        now = self._clients.clock.monotonic()
        for slot, event in zip(slots.tolist(), events, strict=True):
            dirty.setdefault(slot, DirtyUser(event.offset, now, event.event.user_id))
        self._metrics.restored.inc(len(events))

    def _restore_last_slates(self, reader: PartitionReader, partition: TopicPartition, start: int, end: int) -> Steps:
        """The slates of the replayed events, as they were published."""
        for records in self._chunks(reader, partition, start, end):
            for record in records:
                read = decode_own(messages.rankings, bytes.decode, record, self._metrics)
                if read is not None and read[1] is not None:
                    self._restore_slate(partition.partition, read[1])
            yield

    def _restore_slate(self, partition: int, ranking: messages.Ranking) -> None:
        slot = self._store.users.slot_of(ranking.user_id, partition)
        if slot is not None:  # an evicted user's saved state has the slate
            slate = self._store.items.mentioned(item.item_id for item in ranking.slate)
            self._store.users.set_last_slate(slot, slate, self._store.releases.number(ranking.release))

    def _chunks(
        self, reader: PartitionReader, partition: TopicPartition, start: int, end: int
    ) -> Iterator[list[ConsumerRecord]]:
        """The records from `start` up to `end`, in chunks, with the progress in metrics and in the log."""
        position = start
        for records in reader.read(partition, start, end):
            if records:
                position = records[-1].offset + 1
            self._metrics.restore_remaining.labels(str(partition.partition)).set(end - position)
            if self._log_due():
                log.info(
                    "restoring partition %d: %d records of %s to go",
                    partition.partition,
                    end - position,
                    partition.topic,
                )
            yield records


def missing_segments(marker: StateMarker, committed_offset: int) -> list[ReplaySegment]:
    """The events that the saved states may lack, by the release that ranked them."""
    bounds = [(marker.offset, None), *((max(epoch.offset, marker.offset), epoch.release) for epoch in marker.epochs)]
    ends = [start for start, _ in bounds[1:]] + [committed_offset]
    return [
        ReplaySegment(start, min(end, committed_offset), release)
        for (start, release), end in zip(bounds, ends, strict=True)
        if start < min(end, committed_offset)
    ]
