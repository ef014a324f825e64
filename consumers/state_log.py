"""The log of user states: what a partition's saved states are, one evicted user's, and which may be evicted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from anabranch import clients, messages
from anabranch.errors import AnabranchError
from anabranch.messages import STATE_MARKER_KEY, StateMarker, UserState
from anabranch.metrics import RankerMetrics
from anabranch.ranking.item_ids import ItemIds
from anabranch.ranking.live import ReleaseNumbers
from anabranch.ranking.saved_state import load
from anabranch.ranking.state import Evicted, UserStates
from anabranch.settings import Settings
from anabranch.topics import Topics
from consumers import own_message

FETCH_BYTES = 65_536
"""One state is wanted, not what stands behind it."""
PATIENCE_S = 30
KEPT = 0.9
"""Share of `max_users` that stays in memory once there are more: evicting is done by the many, not one by one."""


class StateMissing(AnabranchError):
    """A user's state does not stand in the log where it was written."""


class Entered(NamedTuple):
    """What a chunk of the log held besides the states: the newest marker if any, and the offset the states go up to."""

    marker: StateMarker | None
    holds: int


class Saved(NamedTuple):
    """A saved state, and the offset at which it stands."""

    offset: int
    state: UserState


class StateLog:
    """Moves user states from the log to memory, and lets go of those of idle users."""

    def __init__(
        self,
        settings: Settings,
        states: UserStates,
        item_ids: ItemIds,
        releases: ReleaseNumbers,
        metrics: RankerMetrics,
    ) -> None:
        self._settings = settings
        self._topic = Topics(settings).user_state
        self._states = states
        self._item_ids = item_ids
        self._releases = releases
        self._metrics = metrics
        self._consumer: KafkaConsumer | None = None

    def enter(self, partition: int, records: Iterable[ConsumerRecord]) -> Entered:
        """Enter a chunk of the partition's log into memory."""
        newest = {record.key: record for record in records}
        marker = self._marker(newest.pop(STATE_MARKER_KEY, None))
        saved: dict[str, Saved] = {}
        for record in newest.values():
            read = own_message.read(messages.user_states, bytes.decode, record, self._metrics)
            if read is None:
                continue
            user_id, state = read
            if state is None:
                self._states.forget(user_id, partition)
            else:
                saved[user_id] = Saved(record.offset, state)
        return Entered(marker, self._load(partition, saved))

    def _marker(self, record: ConsumerRecord | None) -> StateMarker | None:
        read = None
        if record is not None:
            read = own_message.read(messages.state_markers, bytes.decode, record, self._metrics)
        return None if read is None else read[1]

    def recall(self, user_ids: Iterable[str], partition: int) -> None:
        """Bring those of a partition's users back who were evicted: a request each. Raises `StateMissing`."""
        away = self._states.away(user_ids, partition)
        if away:
            at = TopicPartition(self._topic, partition)
            consumer = self._reader(at)
            saved = {one.user_id: self._fetch(consumer, at, one) for one in sorted(away, key=lambda one: one.offset)}
            self._load(partition, saved)
            self._metrics.recalled.inc(len(away))

    def make_room(self, is_dirty: Callable[[int], bool]) -> None:
        """Evict the idlest users once there are more than `max_users`; never one whose state is not saved yet."""
        if len(self._states) <= self._settings.max_users:
            return
        idlest = self._states.idlest(len(self._states) - int(KEPT * self._settings.max_users))
        saved = idlest[self._states.columns.saved_at[idlest] >= 0]
        clean = np.array([slot for slot in saved.tolist() if not is_dirty(slot)], np.int64)
        self._states.evict(clean)
        self._metrics.evicted.inc(len(clean))

    def close(self) -> None:
        """Close the reader, if there is one."""
        if self._consumer is not None:
            self._consumer.close()

    def _load(self, partition: int, saved: dict[str, Saved]) -> int:
        """Enter the states; the offset up to which they go."""
        if not saved:
            return 0
        states = [one.state for one in saved.values()]
        slots = self._states.slots(saved, partition)
        load(self._states, slots, states, self._item_ids, self._releases)
        self._states.columns.saved_at[slots] = [one.offset for one in saved.values()]
        self._states.touch(slots)
        return max(state.next_offset for state in states)

    def _reader(self, at: TopicPartition) -> KafkaConsumer:
        if self._consumer is None:
            self._consumer = clients.reader(
                self._settings, [self._topic], max_partition_fetch_bytes=FETCH_BYTES, fetch_max_wait_ms=10
            )
        self._consumer.assign([at])
        return self._consumer

    def _fetch(self, consumer: KafkaConsumer, at: TopicPartition, away: Evicted) -> Saved:
        consumer.seek(at, away.offset)
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for record in consumer.poll(timeout_ms=100, max_records=1).get(at, ()):
                if record.offset == away.offset and record.key == away.user_id.encode():
                    return Saved(record.offset, messages.user_states.decode(record.value))
                raise StateMissing(f"{self._missing(at, away)}; there is offset {record.offset} instead")
        raise StateMissing(f"{self._missing(at, away)} within {PATIENCE_S} s")

    def _missing(self, at: TopicPartition, away: Evicted) -> str:
        return f"{at.topic}, partition {at.partition} does not give the state of user {away.user_id!r} at {away.offset}"
