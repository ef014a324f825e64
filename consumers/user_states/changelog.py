"""The changelog of user states: loading saved states into memory, and evicting those of idle users."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import closing
from itertools import chain

from kafka import TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from msgspec.structs import replace

from anabranch import messages
from anabranch.errors import AnabranchError, BrokerUnavailable
from anabranch.kafka.log_reader import LogReader
from anabranch.kafka.record_batches import UnreadableValue
from anabranch.messages import (
    NEWEST_MARKER_FORMAT,
    NEWEST_STATE_FORMAT,
    STATE_MARKER_KEY,
    BinaryCodec,
    InvalidMessage,
    Message,
    Rebase,
    SavedState,
    StateMarker,
)
from anabranch.metrics import ServingMetrics
from anabranch.ranking.user_state.codec import load
from anabranch.ranking.user_state.formats import format_of
from anabranch.ranking.user_state.store import Evicted
from consumers.user_states.state_store import StateStore

LONG_AGO = 1 << 62
EVICT_TO_SHARE = 0.9
"""Share of `max_users` that stays in memory after an eviction: many are evicted at once, not one by one."""


class StateMissing(AnabranchError):
    """The log does not have a user's state where it was written."""


class StateUnreadable(AnabranchError):
    """A record of the changelog is no state. Without it, its user's events would be lost from the state."""


class StateOfLaterVersion(StateUnreadable):
    """A later version of Anabranch wrote the record, in a format that this one does not know."""


class Changelog:
    """Moves user states between the topic `user-state` and memory."""

    def __init__(
        self, log_reader: LogReader, topic: str, store: StateStore, max_users: int, metrics: ServingMetrics
    ) -> None:
        self._log_reader = log_reader
        self._topic = topic
        self._store = store
        self._max_users = max_users
        self._metrics = metrics
        self._rebases: dict[int, Sequence[Rebase]] = {}
        """By partition, of its newest marker."""

    def begin(self, partition: int, marker: StateMarker) -> None:
        """From now on, load the states of a partition as its newest marker says."""
        self._rebases[partition] = marker.rebases

    def load(self, partition: int, records: Iterable[ConsumerRecord]) -> int:
        """Load a chunk of the partition's changelog into memory. Raises `StateUnreadable`.

        Returns the offset up to which the states hold events, 0 if the chunk has none.
        """
        newest = {record.key or STATE_MARKER_KEY: _readable(record) for record in records}
        if STATE_MARKER_KEY in newest:
            decode_marker(newest.pop(STATE_MARKER_KEY))  # what rankers did not write is no state either
        saved = {}
        for record in newest.values():
            user_id = _user_id(record)
            if record.value is None:
                self._store.users.delete(user_id, partition)
            else:
                saved[user_id] = record
        return self._load(partition, saved)

    def follow(self, partition: int, records: Iterable[ConsumerRecord]) -> None:
        """Take up states that another process saved, in log order: a replica's.

        A state in memory that has as many events is from now on as saved, so that it can be evicted; one that has fewer
        is replaced. Raises `StateUnreadable`.
        """
        columns, rebases = self._store.users.columns, self._rebases.get(partition, ())
        for record in records:
            slot = None if record.value is None else self._store.users.slot_of(_user_id(record), partition)
            saved_to = None if slot is None else decode_state(record, rebases).next_offset
            if saved_to is None or saved_to > columns.next_offset[slot]:
                self.load(partition, [record])
            else:
                columns.saved_at[slot] = record.offset
                columns.dirty[slot] = saved_to < columns.next_offset[slot]

    def load_evicted(self, user_ids: Iterable[str], partition: int) -> None:
        """Load those of a partition's users who were evicted, with one request each.

        One whose state was removed from the topic meanwhile, with a tombstone, is a new user. Raises `StateMissing`,
        `StateUnreadable` and `BrokerUnavailable`.
        """
        evicted = self._store.users.evicted_among(user_ids, partition)
        if not evicted:
            return
        saved: dict[str, ConsumerRecord] = {}
        for user in sorted(evicted, key=lambda user: user.offset):  # in the order of the log
            record = self._fetch(partition, user)
            if record is None:
                self._store.users.delete(user.user_id, partition)
            else:
                saved[user.user_id] = record
        self._load(partition, saved)
        self._metrics.recalled.inc(len(saved))

    @property
    def is_full(self) -> bool:
        """Whether more than `max_users` are in memory."""
        return len(self._store.users) > self._max_users

    def evict_idle_users(self) -> None:
        """Evict the idlest users if there are too many; never one whose state is ahead of its saved form."""
        if self.is_full:
            surplus = len(self._store.users) - int(EVICT_TO_SHARE * self._max_users)
            slots = self._store.users.evictable(surplus)
            self._store.users.evict(slots)
            self._metrics.evicted.inc(len(slots))

    def _load(self, partition: int, records: dict[str, ConsumerRecord]) -> int:
        if not records:
            return 0
        rebases = self._rebases.get(partition, ())
        saved: Sequence[SavedState] = [decode_state(record, rebases) for record in records.values()]
        slots = self._store.users.slots(records, partition)
        load(self._store.users, slots, saved, self._store.items, self._store.releases)
        columns = self._store.users.columns
        columns.saved_at[slots] = [record.offset for record in records.values()]
        # Idler than anybody who was part of a batch; among themselves, the earlier saved the idler.
        columns.last_batch[slots] = columns.saved_at[slots] - LONG_AGO
        return max(state.next_offset for state in saved)

    def _fetch(self, partition: int, user: Evicted) -> ConsumerRecord | None:
        """The record of a user's saved state; None if the topic no longer has a state of the user."""
        source = TopicPartition(self._topic, partition)
        record = self._log_reader.first_record_from(source, user.offset)
        missing = f"{self._topic}, partition {partition} has no state of an evicted user at offset {user.offset}"
        if record is None:
            raise BrokerUnavailable(f"{missing}: nothing came in time")
        if record.offset != user.offset:  # compacted away, for a later record has its key, or had until it was too
            newest = self._newest_from(source, user, record.offset)
            if newest is not None and newest.value is not None:
                raise StateMissing(f"{missing}, but at offset {newest.offset}, where another process wrote it")
            return None
        if record.key != user.user_id.encode():
            raise StateMissing(
                f"{missing}: another user's state is there. Start the ranker again: if the ids of both have the same "
                "hash, they have different ones in the next process, which restores all states from the topic"
            )
        return record

    def _newest_from(self, source: TopicPartition, user: Evicted, start: int) -> ConsumerRecord | None:
        """The newest record of a user from an offset on; None if there is none."""
        key, end = user.user_id.encode(), self._log_reader.bounds([source])[source].end
        with closing(self._log_reader.partition_reader()) as reader:
            records = chain.from_iterable(reader.read(source, start, end))
            newest = deque((record for record in records if record.key == key), maxlen=1)
        return newest[0] if newest else None


def _readable(record: ConsumerRecord) -> ConsumerRecord:
    """The record, unless nobody can read it: without a key, it would pass for a marker, which a later one replaces."""
    if isinstance(record.value, UnreadableValue):
        raise _unreadable(record, ValueError(record.value.reason))
    return record


def decode_state(record: ConsumerRecord, rebases: Sequence[Rebase]) -> SavedState:
    """The state in a record, which holds the events of the present log before its `next_offset`.

    Raises `StateUnreadable`.
    """
    state: SavedState = _decode(messages.user_states, record)
    for rebase in rebases:
        if record.offset < rebase.states_end and state.next_offset > rebase.offset:
            state = replace(state, next_offset=rebase.offset)
    return state


def decode_marker(record: ConsumerRecord) -> StateMarker:
    """The marker in a record. Raises `StateUnreadable`."""
    return _decode(messages.state_markers, record)


def _user_id(record: ConsumerRecord) -> str:
    try:
        return str((record.key or b"").decode())
    except UnicodeDecodeError as error:
        raise _unreadable(record, error) from error


def _decode(codec: BinaryCodec[Message], record: ConsumerRecord) -> Message:
    try:
        return codec.decode(_readable(record).value or b"")
    except InvalidMessage as error:
        version = format_of(record.value or b"")
        known = NEWEST_STATE_FORMAT if record.key else NEWEST_MARKER_FORMAT
        if version is not None and version > known:
            raise _of_later_version(record, version, known) from error
        raise _unreadable(record, error) from error


def _of_later_version(record: ConsumerRecord, version: int, known: int) -> StateOfLaterVersion:
    return StateOfLaterVersion(
        f"{record.topic}, partition {record.partition}, offset {record.offset} was written by a later version of "
        f"Anabranch, in format {version}; this version reads up to {known}. Run that version or a later one; "
        "or empty the topic: user states are then rebuilt from the events that are kept"
    )


def _unreadable(record: ConsumerRecord, error: ValueError) -> StateUnreadable:
    return StateUnreadable(
        f"{record.topic}, partition {record.partition}, offset {record.offset}: {error}. Only rankers should write "
        "there. Remove the record, or empty the topic: user states are then rebuilt from the events that are kept"
    )
