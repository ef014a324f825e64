"""Recovery of a partition: its saved user states, the events after them, and the slates that those events led to."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from typing import NamedTuple

from kafka import TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import OffsetOutOfRangeError, RetriableError
from msgspec.structs import replace

from anabranch import messages
from anabranch.errors import BrokerUnavailable
from anabranch.kafka.log_reader import PartitionReader
from anabranch.kafka.topics import Topics
from anabranch.messages import StateMarker
from anabranch.metrics import RankerMetrics
from anabranch.ranking.pipeline.servable import ServableRelease
from anabranch.ranking.user_state.codec import restore_last_slates
from anabranch.release_notices import ReleaseNotices
from anabranch.settings import Settings
from anabranch.throttle import Throttle
from consumers.ranker.checkpoint import DirtyUser, PartitionCheckpoint
from consumers.ranker.clients import RankerClients
from consumers.ranker.dead_letter_offsets import DeadLetterOffsets
from consumers.ranker.log_messages import RESTORED_PARTITION
from consumers.ranker.partition_task import PartitionTask, PartitionTasks, RecoverySteps, TaskState
from consumers.ranker.start_position import PartitionLogs, StartPosition, StartPositions
from consumers.runtime.decoding import DecodedEvent, decode_events, decode_notice, decode_own
from consumers.runtime.pacing import Backoff
from consumers.runtime.publishers import TransactionAborted
from consumers.user_states.changelog import Changelog
from consumers.user_states.event_replay import replay_events
from consumers.user_states.state_markers import NO_MARKER
from consumers.user_states.state_store import StateStore

log = logging.getLogger(__name__)

REPLAY_EVENTS = 512
"""Events replayed at once: the states of users who were evicted are loaded one by one."""
LOG_INTERVAL_S = 5.0
RELEASE_CHECK_INTERVAL_S = 2.0
LOG_APPEND_TIME = 1
"""The `timestamp_type` of a record of a topic with `message.timestamp.type=LogAppendTime`."""
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
        self._max_message_bytes = settings.max_message_bytes
        self._clients = clients
        self._store = store
        self._changelog = changelog
        self._tasks = tasks
        self._metrics = metrics
        self._dead_letters = DeadLetterOffsets(clients.log_reader, self._topics)
        self._starts = StartPositions(settings, clients, tasks, self._dead_letters, metrics)
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
        except (RetriableError, BrokerUnavailable, OffsetOutOfRangeError, TransactionAborted) as error:
            log.warning("recovery of partition %d starts again: %s", task.partition, error)
            self._backoff.failed()
            self._store.users.drop_partition(task.partition)
            task.restart()
        except StopIteration as end:
            self._backoff.succeeded()
            task.complete(end.value)
            if len(waiting) == 1:  # no other partition is being recovered
                self._dead_letters.forget()
            self._metrics.restore_remaining.labels(str(task.partition)).set(0)
            self._metrics.restore_seconds.observe(self._clients.clock.monotonic() - task.assigned_at)

    def _recover(self, task: PartitionTask) -> RecoverySteps:
        """Yields between steps. The order of the steps is what makes recovery exact.

        First the group's offset, which is final: the broker withholds it while an open transaction may move it. Then
        the ends of `user-state` and `rankings` as of after that, records of open transactions included: everything up
        to there is read, so that all that the offset's own transaction wrote is.
        """
        started_at = self._clients.clock.monotonic()
        logs = PartitionLogs.of(self._topics, task.partition)
        dirty: dict[int, DirtyUser] = {}
        with closing(self._clients.log_reader.partition_reader()) as reader:
            start = yield from self._starts.find(reader, logs)
            offset, events, rankings = start.offset, start.view.events, start.view.bounds[logs.rankings]
            task.restore_to(offset)
            marker = yield from self._load_states(reader, logs.user_state, start)
            for segment in missing_segments(marker, max(marker.offset, events.start), offset):
                yield from self._replay(reader, logs.events, segment, dirty)
            first_ranking = min(max(marker.rankings_offset, rankings.start), rankings.end)
            slates = ReplaySegment(first_ranking, rankings.end, None)
            yield from self._restore_last_slates(reader, logs.rankings, slates, offset, dirty)
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
            marker=replace(marker, rankings_offset=first_ranking, events_topic_id=events.topic_id),
            next_offset=offset,
            rankings_end=rankings.end,
            dirty=dirty,
            marker_written_at=self._clients.clock.monotonic(),
        )

    def _load_states(
        self, reader: PartitionReader, partition: TopicPartition, start: StartPosition
    ) -> Generator[None, None, StateMarker]:
        """Load the saved states; the marker that says what they hold.

        States that hold events beyond the group's offset (somebody set it back) cannot be wound back: they are not
        used, and the events that the log still has are replayed instead.
        The release that ranked last may be one that this process is only loading. The states it encoded are of no use
        to any other release, so they are loaded once it is live here.
        """
        marker = start.view.marker
        while self._live is None:
            yield
        ranked_by = marker.epochs[-1].release if marker.epochs else None
        if ranked_by not in (None, self._live.manifest.id) and self._will_serve(str(ranked_by)):
            log.info("partition %d was last ranked by release %s: waiting for it", partition.partition, ranked_by)
            yield from self._wait_for_release(str(ranked_by))
        self._changelog.begin(partition.partition, marker)
        max_next_offset = marker.offset
        for records in self._chunks(reader, partition, *start.view.bounds[partition][:2]):
            max_next_offset = max(max_next_offset, self._changelog.load(partition.partition, records))
            self._changelog.evict_idle_users()
            yield
        if max_next_offset <= start.offset:
            return marker
        log.warning(
            "partition %d: user states go beyond the group's offset %d and are not used",
            partition.partition,
            start.offset,
        )
        self._store.users.drop_partition(partition.partition)
        return replace(NO_MARKER, rebases=marker.rebases)

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
            notice = decode_notice(record, self._metrics)
            if notice is not None:
                self._notices.add(notice)
        return None if self._notices.live is None else self._notices.live.release

    def _replay(
        self, reader: PartitionReader, partition: TopicPartition, segment: ReplaySegment, dirty: dict[int, DirtyUser]
    ) -> Steps:
        """Apply events without publishing; those that the live release ranked move the encoder as they did then.

        A state that another release encoded is encoded again by the live one at its user's next event, as it would have
        been without a break.
        """
        has_dead_letters = False
        for records in self._chunks(reader, partition, segment.start, segment.end):
            if records and not has_dead_letters:
                yield from self._dead_letters.catch_up(_append_time_ms(records[0]))
                has_dead_letters = True
            readable = (record for record in records if not self._dead_letters.holds_event(record))
            events, _ = decode_events(readable, self._max_message_bytes)
            live = self._live if self._live is not None and segment.release == self._live.manifest.id else None
            for start in range(0, len(events), REPLAY_EVENTS):
                self._replay_events(events[start : start + REPLAY_EVENTS], live, dirty)
                yield
            yield

    def _replay_events(
        self, events: Sequence[DecodedEvent], live: ServableRelease | None, dirty: dict[int, DirtyUser]
    ) -> None:
        slots, events = replay_events(self._store, self._changelog, events, live)
        now = self._clients.clock.monotonic()
        for slot, event in zip(slots.tolist(), events, strict=True):
            dirty.setdefault(slot, DirtyUser(event.offset, now, event.event.user_id))
        self._metrics.restored.inc(len(events))

    def _restore_last_slates(
        self,
        reader: PartitionReader,
        partition: TopicPartition,
        rankings: ReplaySegment,
        next_offset: int,
        dirty: dict[int, DirtyUser],
    ) -> Steps:
        """The slates of the replayed events, as they were published, and of events that can no longer be replayed."""
        for records in self._chunks(reader, partition, rankings.start, rankings.end):
            published = list(self._read_rankings(records))
            self._changelog.load_evicted((ranking.user_id for ranking in published), partition.partition)
            for ranking in published:
                self._restore_slate(partition.partition, ranking, next_offset, dirty)
            yield

    def _read_rankings(self, records: Iterable[ConsumerRecord]) -> Iterator[messages.Ranking]:
        for record in records:
            read = decode_own(messages.rankings, bytes.decode, record, self._metrics)
            if read is not None and read[1] is not None:
                yield read[1]

    def _restore_slate(
        self, partition: int, ranking: messages.Ranking, next_offset: int, dirty: dict[int, DirtyUser]
    ) -> None:
        """Put the slates into their user's state; a state without their event, which the log lost, is to be saved."""
        slot = self._store.users.slot_of(ranking.user_id, partition)
        if slot is None:
            return
        restore_last_slates(self._store.users, slot, ranking, self._store.items, self._store.releases)
        columns = self._store.users.columns
        if ranking.cause.offset >= columns.next_offset[slot]:
            columns.dirty[slot] = True
            now = self._clients.clock.monotonic()
            dirty.setdefault(slot, DirtyUser(next_offset, now, ranking.user_id))

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


def _append_time_ms(event: ConsumerRecord) -> int:
    """When the broker appended an event; 0 if the topic has the times of producers, which say nothing about that."""
    appended_ms: int = event.timestamp
    return appended_ms if event.timestamp_type == LOG_APPEND_TIME else 0


def missing_segments(marker: StateMarker, start: int, end: int) -> list[ReplaySegment]:
    """The events from `start` up to `end`, which the saved states may lack, by the release that ranked them."""
    bounds = [(start, None), *((max(epoch.offset, start), epoch.release) for epoch in marker.epochs)]
    ends = [first for first, _ in bounds[1:]] + [end]
    return [
        ReplaySegment(first, min(last, end), release)
        for (first, release), last in zip(bounds, ends, strict=True)
        if first < min(last, end)
    ]
