"""A member of a consumer group: its partitions, the group's offsets, and batches of records."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import (
    CommitFailedError,
    LogTruncationError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    RebalanceInProgressError,
    RetriableError,
)
from kafka.structs import MemberState

from anabranch.kafka import clients, group_membership
from anabranch.kafka.clients import IDLE_WAIT_MS
from anabranch.kafka.partitions import known_partitions
from anabranch.kafka.records import Offsets, offsets_and_metadata
from anabranch.settings import Settings
from consumers.runtime.assignment import AssignmentListener, Rebalance

OFFSET_TIMEOUT_MS = 200
"""How long other work waits for an offset. An open transaction of a partition's last owner withholds the group's."""
LOG_END_TIMEOUT_MS = 2 * IDLE_WAIT_MS
"""How long a rebalance waits for the ends of logs, whose request may wait behind an idle fetch."""

NO_OFFSET = -1
"""The committed offset of a partition for which the group has none."""
NOT_NOW = (RetriableError, CommitFailedError, RebalanceInProgressError)
"""Why the group may refuse a request that it will answer later, perhaps to another member."""


class GroupConsumer(Protocol):
    """What the ranker needs of its group."""

    @property
    def group_metadata(self) -> Any:
        """The newest generation in which this process knows its partitions; it fences a transaction (KIP-447)."""

    @property
    def is_stable(self) -> bool:
        """Whether the group would accept offsets now: no rebalance is under way or still to be taken."""

    def poll_batch(
        self,
        running: Collection[int],
        limit: int,
        wait_for_pending: Callable[[float], object],
        timeout_ms: int = IDLE_WAIT_MS,
    ) -> list[ConsumerRecord]:
        """A batch of up to `limit` records of the running partitions; empty if the group rebalances meanwhile.

        It waits up to `timeout_ms` for the first record.
        """

    def take_rebalance(self) -> Rebalance | None:
        """What rebalances changed since the last call, None for nothing. Assigned partitions are paused.

        A partition whose log no longer has the position of this process is revoked and assigned again.
        """

    @property
    def partitions(self) -> int:
        """How many partitions the topic has, which may be more than `Settings.partitions`; those are never assigned."""

    def is_at_end(self, partitions: Iterable[int]) -> bool:
        """Whether every record was polled up to the ends of these partitions as the newest fetch saw them."""

    def committed_offset(self, partition: int, timeout_ms: int = OFFSET_TIMEOUT_MS) -> int | None:
        """The group's offset of a partition: the next that it consumes; None while that is not known.

        `NO_OFFSET` if the group has none: it is new, or its offsets have expired (`offsets.retention.minutes`).
        """

    def begin(self, partitions: Iterable[int]) -> None:
        """Commit first offsets for new partitions, the starts or the ends of the logs as `start` says.

        The group may refuse; `committed_offset` says what holds.
        """

    def remember(self, partition: int, offset: int) -> None:
        """Commit the offset of a partition for which the group has none; it may refuse, as above."""

    def resume(self, partition: int, offset: int) -> bool:
        """Fetch records of a partition from an offset on; False if the partition has just been revoked."""

    def pause(self, partitions: Iterable[int]) -> None:
        """Fetch no more records of the partitions."""

    def end_offsets(self, partitions: Iterable[int]) -> dict[int, int]:
        """The log end of each partition as the newest fetch saw it; without those that were not fetched yet."""

    def commit(self, offsets: Offsets) -> None:
        """Commit offsets outside any transaction, in the generation of `group_metadata`. Raises `KafkaError`."""

    def close(self) -> None:
        """Leave the group, so that its partitions move at once."""


class KafkaGroupConsumer:
    """The `GroupConsumer` of a real cluster."""

    def __init__(self, settings: Settings, topic: str) -> None:
        """Join the group of the rankers. Raises `BrokerUnavailable`."""
        self._linger_s = settings.linger_ms / 1000
        self._start = settings.start
        self._partitions = settings.partitions
        self._topic = topic
        self._listener = AssignmentListener()
        self._consumer: KafkaConsumer = clients.group_consumer(
            settings,
            settings.group("ranker"),
            partition_assignment_strategy=[self._listener.assignor],
            fetch_max_wait_ms=IDLE_WAIT_MS,
            auto_offset_reset="none",  # a position that the log does not have is judged, not replaced
        )
        group_membership.report_every_loss(self._consumer)
        group_membership.finish_every_join(self._consumer)
        self._consumer.subscribe([topic], listener=self._listener)
        group_membership.fetch_metadata(self._consumer)
        self._group_metadata: Any = None
        self._topic_id: str | None = None

    @property
    def group_metadata(self) -> Any:
        """See `GroupConsumer`.

        Never a generation that is still being joined: its partitions are not known yet, and a commit in its name could
        be one for a partition of another member. Never the empty one of a member that was removed: it fences nothing.
        """
        return self._group_metadata

    @property
    def is_stable(self) -> bool:
        """See `GroupConsumer`."""
        metadata = self._consumer.group_metadata()
        joined = metadata.state is MemberState.STABLE and metadata.generation_id >= 0
        return joined and not self._listener.has_changes

    def poll_batch(
        self,
        running: Collection[int],
        limit: int,
        wait_for_pending: Callable[[float], object],
        timeout_ms: int = IDLE_WAIT_MS,
    ) -> list[ConsumerRecord]:
        """See `GroupConsumer`. There are fewer records if they are large or slow to parse: see `PollBudget`.

        After the first records, the batch grows while the transaction before it is being published, since it would
        wait for that anyway: `wait_for_pending(seconds)` returns when that is over, or after `linger_ms`. So batches
        grow with the load, as packets do by Nagle's algorithm (RFC 896).

        During a rebalance the group would refuse the offsets of the records: they are fetched again, by this process or
        by another.
        """
        records = self._poll(running, timeout_ms, limit)
        if records and len(records) < limit:
            wait_for_pending(self._linger_s)
            records += self._poll(running, 0, limit - len(records))
        if not self.is_stable:
            self._rewind(records)
            return []
        return records

    def take_rebalance(self) -> Rebalance | None:
        """See `GroupConsumer`."""
        if not self._listener.has_changes:
            return None
        ours = frozenset(range(self._partitions))
        rebalance = Rebalance(*(partitions & ours for partitions in self._listener.take()))
        self.pause(rebalance.assigned)
        self._remember_generation()
        return rebalance

    @property
    def partitions(self) -> int:
        """See `GroupConsumer`."""
        return known_partitions(self._consumer, self._topic)

    def is_at_end(self, partitions: Iterable[int]) -> bool:
        """See `GroupConsumer`. The consumer's position counts, for a transaction's markers are no records."""
        sources = [self._topic_partition(partition) for partition in partitions]
        ends = clients.fetched_ends(self._consumer, sources)
        return len(ends) == len(sources) and clients.reached(self._consumer, ends)

    def committed_offset(self, partition: int, timeout_ms: int = OFFSET_TIMEOUT_MS) -> int | None:
        """See `GroupConsumer`."""
        try:
            committed: int | None = self._consumer.committed(self._topic_partition(partition), timeout_ms=timeout_ms)
        except NOT_NOW:
            return None
        return NO_OFFSET if committed is None else committed

    def begin(self, partitions: Iterable[int]) -> None:
        """See `GroupConsumer`.

        With `start` "latest" the offsets are the ends as of now: what precedes them is history. They are read at once,
        since the request may wait behind an idle fetch.
        """
        new = group_membership.still_assigned(self._consumer, map(self._topic_partition, sorted(partitions)))
        read_bounds = self._consumer.end_offsets if self._start == "latest" else self._consumer.beginning_offsets
        with suppress(*NOT_NOW):
            self._consumer.commit(offsets_and_metadata(read_bounds(new)))

    def remember(self, partition: int, offset: int) -> None:
        """See `GroupConsumer`."""
        with suppress(*NOT_NOW):
            self._consumer.commit(offsets_and_metadata({self._topic_partition(partition): offset}))

    def resume(self, partition: int, offset: int) -> bool:
        """See `GroupConsumer`."""
        try:
            self._consumer.seek(self._topic_partition(partition), offset)
        except group_membership.NOT_ASSIGNED:
            return False
        return True

    def pause(self, partitions: Iterable[int]) -> None:
        """See `GroupConsumer`: the client is left at the ends of the logs, see `group_membership.seek_all`."""
        topic_partitions = group_membership.still_assigned(self._consumer, map(self._topic_partition, partitions))
        group_membership.seek_all(self._consumer, self._read_ends(topic_partitions))

    def end_offsets(self, partitions: Iterable[int]) -> dict[int, int]:
        """See `GroupConsumer`."""
        ends = clients.fetched_ends(self._consumer, map(self._topic_partition, partitions))
        return {topic_partition.partition: end for topic_partition, end in ends.items()}

    def commit(self, offsets: Offsets) -> None:
        """See `GroupConsumer`. The client commits in its own generation, which must not be a newer one."""
        ours, current = self._group_metadata, self._consumer.group_metadata()
        if ours is None or (ours.member_id, ours.generation_id) != (current.member_id, current.generation_id):
            raise CommitFailedError("the group has moved on from the generation in which the offsets were consumed")
        self._consumer.commit(offsets_and_metadata(offsets))

    def close(self) -> None:
        """See `GroupConsumer`."""
        self._consumer.close(autocommit=False)

    def _poll(self, running: Collection[int], timeout_ms: int, limit: int) -> list[ConsumerRecord]:
        try:
            polled = self._consumer.poll(timeout_ms=timeout_ms, max_records=limit)
        except (OffsetOutOfRangeError, LogTruncationError) as error:
            lost = group_membership.lost_positions(error)
            self._listener.reassign(group_membership.still_assigned(self._consumer, lost))
            return []
        except NoOffsetForPartitionError as error:  # the next rebalance to be taken is theirs, unless its pause failed
            self.pause(partition.partition for partition in group_membership.lost_positions(error))
            return []
        self._notice_recreation()
        self._remember_generation()
        return [record for source, records in polled.items() if source.partition in running for record in records]

    def _notice_recreation(self) -> None:
        """Begin every partition again if the topic is another one than at the last poll, although its log may be long
        enough for the positions."""
        topic_id = group_membership.topic_id(self._consumer, self._topic)
        if topic_id is not None and topic_id != self._topic_id:
            if self._topic_id is not None:
                self._listener.reassign(self._consumer.assignment())
            self._topic_id = topic_id

    def _remember_generation(self) -> None:
        if self.is_stable:
            self._group_metadata = self._consumer.group_metadata()

    def _rewind(self, records: Iterable[ConsumerRecord]) -> None:
        """Fetch dropped records again where their partition survives the rebalance."""
        first_offsets: dict[TopicPartition, int] = {}
        for record in records:
            first_offsets.setdefault(self._topic_partition(record.partition), record.offset)
        group_membership.seek_all(self._consumer, first_offsets)

    def _read_ends(self, partitions: list[TopicPartition]) -> Mapping[TopicPartition, int]:
        with suppress(RetriableError):
            ends: Mapping[TopicPartition, int] = self._consumer.end_offsets(partitions, timeout_ms=LOG_END_TIMEOUT_MS)
            return ends
        return {}

    def _topic_partition(self, partition: int) -> TopicPartition:
        return TopicPartition(self._topic, partition)
