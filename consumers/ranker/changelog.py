"""The log of user states: what a partition's saved states are, one evicted user's, and which may be evicted."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from anabranch import messages
from anabranch.errors import AnabranchError, BrokerUnavailable
from anabranch.kafka import clients
from anabranch.kafka.topics import Topics
from anabranch.messages import STATE_MARKER_KEY, BinaryCodec, InvalidMessage, Message, SavedState, StateMarker
from anabranch.metrics import RankerMetrics
from anabranch.ranking.user_state.codec import load
from anabranch.ranking.user_state.store import Evicted, UserStates
from anabranch.ranking.vocabulary import ItemIds, ReleaseNumbers
from anabranch.settings import Settings

FETCH_BYTES = 65_536
"""One state is wanted, not what stands behind it."""
PATIENCE_S = 30
LONG_AGO = 1 << 62
KEPT = 0.9
"""Share of `max_users` that stays in memory once there are more: evicting is done by the many, not one by one."""


class StateMissing(AnabranchError):
    """A user's state does not stand in the log where it was written."""


class StateUnreadable(AnabranchError):
    """What stands in the log of states is no state. Passed over, its user's events would be lost from it."""


class Entered(NamedTuple):
    """What a chunk of the log held besides the states: the newest marker if any, and the offset the states go up to."""

    marker: StateMarker | None
    holds: int


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
        """Enter a chunk of the partition's log into memory. Raises `StateUnreadable`."""
        newest = {record.key or STATE_MARKER_KEY: record for record in records}
        marker = newest.pop(STATE_MARKER_KEY, None)
        saved = {}
        for record in newest.values():
            user_id = _user_id(record)
            if record.value is None:
                self._states.forget(user_id, partition)
            else:
                saved[user_id] = record
        holds = self._load(partition, saved)
        return Entered(None if marker is None else _decode(messages.state_markers, marker), holds)

    def recall(self, user_ids: Iterable[str], partition: int) -> None:
        """Bring those of a partition's users back who were evicted: a request each. Raises `StateMissing`."""
        away = self._states.away(user_ids, partition)
        if away:
            at = TopicPartition(self._topic, partition)
            consumer = self._reader(at)
            records = {one.user_id: self._fetch(consumer, at, one) for one in sorted(away, key=lambda one: one.offset)}
            self._load(partition, records)
            self._metrics.recalled.inc(len(away))

    @property
    def is_full(self) -> bool:
        """Whether there are more than `max_users` in memory."""
        return len(self._states) > self._settings.max_users

    def make_room(self) -> None:
        """Evict idle users once there are too many; never one whose state is ahead of its saved form."""
        if self.is_full:
            evictable = self._states.evictable(len(self._states) - int(KEPT * self._settings.max_users))
            self._states.evict(evictable)
            self._metrics.evicted.inc(len(evictable))

    def close(self) -> None:
        """Close the reader, if there is one."""
        if self._consumer is not None:
            self._consumer.close()

    def _load(self, partition: int, records: dict[str, ConsumerRecord]) -> int:
        if not records:
            return 0
        saved: Sequence[SavedState] = [_decode(messages.user_states, record) for record in records.values()]
        slots = self._states.slots(records, partition)
        load(self._states, slots, saved, self._item_ids, self._releases)
        self._states.columns.saved_at[slots] = [record.offset for record in records.values()]
        # Idler than whoever was part of a batch, and the earlier saved the idler.
        self._states.columns.touched[slots] = self._states.columns.saved_at[slots] - LONG_AGO
        return max(one.next_offset for one in saved)

    def _reader(self, at: TopicPartition) -> KafkaConsumer:
        if self._consumer is None:
            self._consumer = clients.reader(
                self._settings, [self._topic], max_partition_fetch_bytes=FETCH_BYTES, fetch_max_wait_ms=10
            )
        self._consumer.assign([at])
        return self._consumer

    def _fetch(self, consumer: KafkaConsumer, at: TopicPartition, away: Evicted) -> ConsumerRecord:
        consumer.seek(at, away.offset)
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for record in consumer.poll(timeout_ms=100, max_records=1).get(at, ()):
                if record.offset == away.offset and record.key == away.user_id.encode():
                    return record
                raise StateMissing(f"{self._missing(at, away)}; there is offset {record.offset} instead")
        raise BrokerUnavailable(f"{self._missing(at, away)} within {PATIENCE_S} s")

    def _missing(self, at: TopicPartition, away: Evicted) -> str:
        return f"{at.topic}, partition {at.partition} does not give the state of user {away.user_id!r} at {away.offset}"


def _user_id(record: ConsumerRecord) -> str:
    try:
        return str((record.key or b"").decode())
    except UnicodeDecodeError as error:
        raise _unreadable(record, error) from error


def _decode(codec: BinaryCodec[Message], record: ConsumerRecord) -> Message:
    try:
        return codec.decode(record.value or b"")
    except InvalidMessage as error:
        raise _unreadable(record, error) from error


def _unreadable(record: ConsumerRecord, error: ValueError) -> StateUnreadable:
    return StateUnreadable(
        f"{record.topic}, partition {record.partition}, offset {record.offset}: {error}. Only rankers should write "
        "there; remove the record, or empty the topic, and user states are made from the events that are kept"
    )
