"""A read replica: the user states of rankers, and what they rank with, in step with the logs."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from kafka import TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import LogTruncationError, OffsetOutOfRangeError, RetriableError

from anabranch.errors import BrokerUnavailable
from anabranch.kafka.log_reader import LogReader
from anabranch.kafka.topics import Topics
from anabranch.messages import STATE_MARKER_KEY
from anabranch.settings import Settings
from anabranch.throttle import Throttle
from consumers.releases.release_source import AnnouncedRelease, ReleaseSource
from consumers.releases.serving_model import ServingModel
from consumers.releases.updates import SwapRelease
from consumers.replica.log_source import LogSource
from consumers.replica.metrics import ReplicaMetrics
from consumers.replica.restore import RestoredPartition, RestoreSteps, StateRestore, StatesOfAnotherLog
from consumers.replica.user_changes import UserChanges
from consumers.runtime.clock import Clock
from consumers.runtime.decoding import DecodedEvent, decode_events
from consumers.runtime.pacing import Backoff
from consumers.user_states.changelog import Changelog, StateMissing, decode_marker
from consumers.user_states.event_replay import replay_events
from consumers.user_states.state_gauges import StateGauges
from consumers.user_states.state_store import StateStore

FOLD_RECORDS = 64
"""Records applied at a time: requests wait for no more than these."""
GAUGE_INTERVAL_S = 1.0
RESTORE_AGAIN = (
    RetriableError,
    BrokerUnavailable,
    OffsetOutOfRangeError,
    LogTruncationError,
    StateMissing,
    StatesOfAnotherLog,
)
"""The broker is away, or a log no longer has what is to be read next: it was trimmed, compacted or replaced."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReplicaClients:
    """All that a replica reaches outside its process."""

    source: LogSource
    log_reader: LogReader
    clock: Clock = field(default_factory=Clock)

    def close(self) -> None:
        """Close all of it."""
        self.source.close()
        self.log_reader.close()


@dataclass
class FollowedPartition:
    """A restored partition."""

    restored: RestoredPartition
    next_event: int
    """The first event that is not in user states."""
    newest_append_ms: int
    """When the newest of the applied events was appended; before one was applied, when the partition was restored."""


class Replica:
    """Follows `events` and `user-state`, the releases and what comes with them. One thread does all of its work."""

    def __init__(
        self,
        settings: Settings,
        store: StateStore,
        clients: ReplicaClients,
        watcher: ReleaseSource,
        metrics: ReplicaMetrics,
    ) -> None:
        """The `watcher` and this share the item ids of the `store`. `close` closes the clients too."""
        self.store = store
        self.model = ServingModel(settings, store, metrics)
        self.partitions: dict[int, FollowedPartition] = {}
        """Those that are restored; all of them, once `is_following`."""
        self._settings = settings
        self._topics = Topics(settings)
        self._clients = clients
        self._watcher = watcher
        self._metrics = metrics
        self.changelog = Changelog(clients.log_reader, self._topics.user_state, store, settings.max_users, metrics)
        self._restore = StateRestore(settings, clients.log_reader, self.changelog)
        self._restoring: Iterator[None] | None = None
        self._backoff = Backoff(clients.clock.monotonic)
        self._gauges_due = Throttle(GAUGE_INTERVAL_S, clients.clock.monotonic)
        self._state_gauges = StateGauges(metrics, clients.clock.monotonic)
        self.is_following = False
        self.changes = UserChanges()
        """Users whose slates may have changed, of those who are watched."""

    @property
    def placements(self) -> tuple[str, ...]:
        """The names of the placements that it ranks for."""
        return tuple(placement.name for placement in self._settings.placements)

    def start(self) -> None:
        """Start to watch releases."""
        self._watcher.start()

    def run_once(self) -> bool:
        """One turn: what is due of updates, and at most `FOLD_RECORDS` records. Whether there was anything to do."""
        self._watcher.raise_failure()
        worked = self._apply_updates()
        try:
            worked |= self._follow() if self.is_following else self._advance_restore()
        except RESTORE_AGAIN as error:
            self._start_again(error)
        if self.changelog.is_full:
            self.changelog.evict_idle_users()
        if self.store.is_item_update_due:
            self.store.update_items()
        if self._gauges_due():
            self._state_gauges.show(self.store, self.model.live)
            self._metrics.show_lags(self.lags())
        self._metrics.loop.turned(self.waits_for)
        return worked

    @property
    def waits_for(self) -> str | None:
        """What is missing before requests are answered from states that are up to date; None: nothing."""
        if self.model.live is None:
            return f"waiting for {self._watcher.waiting_for}"
        if not self.is_following:
            return f"restoring user states: {len(self.partitions)} of {self._settings.partitions} partitions are done"
        lags = self.lags()
        behind = {partition: lag for partition, lag in lags.items() if lag > self._settings.ready_max_lag}
        if behind:
            return f"behind the end of {self._topics.events}: " + ", ".join(
                f"{lag} events in partition {partition}" for partition, lag in sorted(behind.items())
            )
        return None if len(lags) == len(self.partitions) else f"waiting for the ends of {self._topics.events}"

    def lags(self) -> dict[int, int]:
        """Events between what is in user states and the end of each partition, where the end is known."""
        ends = self._clients.source.end_offsets()
        return {
            number: max(0, ends[partition.restored.events] - partition.next_event)
            for number, partition in list(self.partitions.items())
            if partition.restored.events in ends
        }

    def freshness_ms(self) -> int:
        """How old the newest applied event is in the partition that is furthest behind; 0 at the ends of all logs.

        Any thread may ask.
        """
        now_ms, lags = int(self._clients.clock.wall() * 1000), self.lags()
        behind = [partition for number, partition in list(self.partitions.items()) if lags.get(number)]
        return max([0, *(now_ms - partition.newest_append_ms for partition in behind)])

    def announced_releases(self) -> list[AnnouncedRelease]:
        """All releases on the topic `releases`, in the order of their first notices. Any thread may ask."""
        return self._watcher.announced()

    def close(self) -> None:
        """Close everything."""
        self._watcher.close()
        self._clients.close()

    def _apply_updates(self) -> bool:
        """Apply what the watcher has ready: all of it before the first release is live, then one per turn."""
        updates = list(self._watcher.take_updates(None if self.model.live is None else 1))
        for update in updates:
            if self.store.is_item_update_due:
                self.store.update_items()
            if isinstance(update, SwapRelease):
                self.model.swap(update.live)
            else:
                self.model.apply(update)
        if self.model.maintain(int(self._clients.clock.wall() * 1000)):
            self.changes.add_everybody()
        return bool(updates)

    def _advance_restore(self) -> bool:
        """One step of the restore, once a release is live: states are encoded by it."""
        if self.model.live is None or not self._backoff.ready:
            return False
        if self._restoring is None:
            self._restoring = self._restore_all()
        if next(self._restoring, self) is self:
            self._restoring = None
        return True

    def _restore_all(self) -> Iterator[None]:
        for number in range(self._settings.partitions):
            steps: RestoreSteps = self._restore.steps(number)
            restored = yield from steps
            now_ms = int(self._clients.clock.wall() * 1000)
            self.partitions[number] = FollowedPartition(restored, restored.next_event, now_ms)
        positions: dict[TopicPartition, int] = {}
        for partition in self.partitions.values():
            restored = partition.restored
            positions[restored.events], positions[restored.states] = restored.next_event, restored.next_state
        self._clients.source.start(positions)
        self.is_following = True
        self.changes.add_everybody()
        log.info("%d user states of %d partitions are restored", len(self.store.users), len(self.partitions))

    def _start_again(self, error: Exception) -> None:
        log.warning("all partitions are restored again: %s", error)
        self._backoff.failed()
        for number in range(self._settings.partitions):
            self.store.users.drop_partition(number)
        self.partitions.clear()
        self._restoring, self.is_following = None, False

    def _follow(self) -> bool:
        """Events first: a saved state that has no more than these is not loaded."""
        records = self._clients.source.take(FOLD_RECORDS)
        events: dict[int, list[ConsumerRecord]] = defaultdict(list)
        states: dict[int, list[ConsumerRecord]] = defaultdict(list)
        for record in records:
            (events if record.topic == self._topics.events else states)[record.partition].append(record)
        if records:
            self._backoff.succeeded()
        if events:
            self._apply_events(events)
        for number, of_partition in states.items():
            self._apply_saved_states(self.partitions[number].restored, of_partition)
        return bool(records)

    def _apply_events(self, by_partition: Mapping[int, Sequence[ConsumerRecord]]) -> None:
        """What rankers cannot decode, and send to the dead letters, is skipped here."""
        earlier: list[DecodedEvent] = []
        newest: list[DecodedEvent] = []
        for number, records in by_partition.items():
            epoch = self.partitions[number].restored.encoded_from
            for event in decode_events(records, self._settings.max_message_bytes)[0]:
                (newest if event.offset >= epoch else earlier).append(event)
        if earlier:
            replay_events(self.store, self.changelog, earlier, None)
        if newest:
            slots, _ = replay_events(self.store, self.changelog, newest, self.model.live)
            if len(slots):
                self.model.observe_users(np.unique(slots))
        for number, records in by_partition.items():
            partition = self.partitions[number]
            partition.next_event = records[-1].offset + 1
            partition.newest_append_ms = max(partition.newest_append_ms, records[-1].timestamp)
        if self.changes.is_watching:
            self.changes.add(event.event.user_id for event in (*earlier, *newest))
        self._metrics.applied.inc(len(earlier) + len(newest))

    def _apply_saved_states(self, partition: RestoredPartition, records: Sequence[ConsumerRecord]) -> None:
        """A saved state that has no more than the one in memory says that this may be evicted; others are loaded.

        A marker may say that offsets mean other events from now on. Raises as `StateRestore.require_same_log` does.
        """
        for record in records:
            if (record.key or STATE_MARKER_KEY) == STATE_MARKER_KEY:
                self._restore.require_same_log(partition, decode_marker(record))
            else:
                self.changelog.follow(partition.states.partition, [record])
