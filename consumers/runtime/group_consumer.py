"""The ranker's side of the consumer group: which partitions it has, from where, and batches of their records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import CommitFailedError, IllegalStateError, RebalanceInProgressError, RetriableError
from kafka.structs import MemberState

from anabranch.kafka import clients
from anabranch.settings import Settings
from consumers.runtime.assignment import AssignmentListener, Rebalanced
from consumers.runtime.publishers import to_commit

IDLE_MS = 50
"""How long to wait for a first record before other work gets its turn."""
ANSWER_MS = 200
"""How long other work waits for an offset. An open transaction of a partition's last owner holds the group's back."""

NOT_ASSIGNED = (ValueError, IllegalStateError)
"""How kafka-python says that a partition was revoked this very moment."""


class Intake:
    """Takes batches of records from the partitions that are open, and none from those that are not."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self._settings = settings
        self._topic = topic
        self._listener = AssignmentListener()
        self._open: set[int] = set()
        self._consumer: KafkaConsumer = clients.group_consumer(
            settings, settings.group("ranker"), partition_assignment_strategy=[self._listener.assignor]
        )
        _report_every_loss(self._consumer)
        self._consumer.subscribe([topic], listener=self._listener)
        # Metadata now, or kafka-python 3.0.12 joins without and joins again when it comes. That second join, unlike
        # any that the group asks for, is never finished if its answer comes after the poll's time-out: the consumer
        # then heartbeats for ever and fetches nothing.
        self._consumer.topics()
        self.membership: Any = None
        """The newest generation of the group in which this process knows its partitions: it fences a transaction.

        Never one that is only being joined: its partitions are not known yet, and a commit in its name could be one for
        a partition that is somebody else's. Never the empty one of a process that was thrown out: it fences nothing.
        """

    def collect(self, before_is_out: Callable[[float], object]) -> list[ConsumerRecord]:
        """Up to `batch_max` records; none if the group rebalances meanwhile.

        More than the first come into the batch while the one before is still being published, for it would wait for
        that anyway: `before_is_out(seconds)` returns when that is over, or the seconds of `linger_ms`. So batches grow
        with the load, as packets do by Nagle's rule (RFC 896).

        In a rebalance the group would refuse their offsets. They are fetched again, by this process or another.
        """
        most = self._settings.batch_max
        records = self._poll(IDLE_MS, most)
        if records and len(records) < most:
            before_is_out(self._settings.linger_ms / 1000)
            records += self._poll(0, most - len(records))
        if not self.settled:
            self._rewind(records)
            return []
        return records

    @property
    def settled(self) -> bool:
        """Whether the group would take offsets now: no rebalance is under way, or is yet to be acted on."""
        membership = self._consumer.group_metadata()
        stable = membership.state is MemberState.STABLE and membership.generation_id >= 0
        return stable and not self._listener.changed

    def rebalanced(self) -> Rebalanced | None:
        """What rebalances changed since the last call; every partition they touched is closed."""
        if not self._listener.changed:
            return None
        change = self._listener.take()
        self._open -= change.revoked | change.assigned
        self._park(change.assigned)
        self._note_membership()
        return change

    def committed(self, partition: int, within_ms: int = ANSWER_MS) -> int | None:
        """The next offset the group wants of a partition; None while that is not known.

        Other work waits for the answer, for `within_ms`. A group that has none yet gets one committed: with
        `start` "latest" the log's end as of now, for what stands before is history.
        """
        at = self._partition(partition)
        try:
            committed: int | None = self._consumer.committed(at, timeout_ms=within_ms)
            if committed is not None:
                return committed
            ends = self._consumer.end_offsets if self._settings.start == "latest" else self._consumer.beginning_offsets
            offset: int = ends([at])[at]
            self.commit({at: offset})
            return offset
        except (RetriableError, CommitFailedError, RebalanceInProgressError):
            return None

    def open(self, partition: int, offset: int) -> None:
        """Take records of a partition from an offset on; not if it has just been revoked, which `rebalanced` tells."""
        try:
            self._consumer.seek(self._partition(partition), offset)
        except NOT_ASSIGNED:
            return
        self._open.add(partition)

    def shut(self, partition: int) -> None:
        """Take no more records of a partition."""
        self._open.discard(partition)
        self._park([partition])

    @property
    def is_open(self) -> frozenset[int]:
        """Partitions whose records are taken."""
        return frozenset(self._open)

    def ends(self, partitions: Iterable[int]) -> dict[int, int]:
        """The end of each partition's log, as the broker has it now; none if it does not say at once."""
        with suppress(RetriableError):
            ends = self._consumer.end_offsets(self._partitions(partitions), timeout_ms=ANSWER_MS)
            return {at.partition: end for at, end in ends.items()}
        return {}

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit offsets outside any transaction."""
        self._consumer.commit(to_commit(offsets))

    def close(self) -> None:
        """Leave the group, so that its partitions move at once."""
        self._consumer.close(autocommit=False)

    def _rewind(self, records: Iterable[ConsumerRecord]) -> None:
        """Have dropped records fetched again where their partition stays open through a rebalance."""
        first: dict[int, int] = {}
        for record in records:
            first.setdefault(record.partition, record.offset)
        for partition, offset in first.items():
            with suppress(*NOT_ASSIGNED):
                self._consumer.seek(self._partition(partition), offset)

    def _park(self, partitions: Iterable[int]) -> None:
        """Keep the client from fetching what would be dropped: leave it at the end of the partitions' logs.

        Pausing would be the way, but kafka-python 3.0.12 never fetches again from a partition that was paused with
        part of a fetch still in hand. `seek_to_end` takes effect some time later, which may be after a later `seek`.
        """
        assigned = {one.partition for one in self._consumer.assignment()}
        for partition, end in self.ends(assigned.intersection(partitions)).items():
            with suppress(*NOT_ASSIGNED):
                self._consumer.seek(self._partition(partition), end)

    def _poll(self, timeout_ms: int, limit: int) -> list[ConsumerRecord]:
        polled = self._consumer.poll(timeout_ms=timeout_ms, max_records=limit)
        self._note_membership()
        return [
            record for partition, records in polled.items() if partition.partition in self._open for record in records
        ]

    def _note_membership(self) -> None:
        if self.settled:
            self.membership = self._consumer.group_metadata()

    def _partition(self, number: int) -> TopicPartition:
        return TopicPartition(self._topic, number)

    def _partitions(self, numbers: Iterable[int]) -> list[TopicPartition]:
        return [self._partition(number) for number in numbers]


def _report_every_loss(consumer: KafkaConsumer) -> None:
    """Have the client tell of lost partitions also where it is thrown out while it rejoins.

    kafka-python 3.0.12 asks once a rejoin whether its membership was lost, at its beginning. Thrown out after that, it
    joins anew under another name, claims what it had, and says nothing, though others have had it meanwhile.
    """
    coordinator = consumer._coordinator
    reset = coordinator.reset_generation

    def reset_and_ask_again(*arguments: Any, **options: Any) -> None:
        reset(*arguments, **options)
        coordinator.rejoining = False

    coordinator.reset_generation = reset_and_ask_again
