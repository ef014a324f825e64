"""Reading committed records outside any consumer group: a range of one partition, one record, a topic to its end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from anabranch.errors import BrokerUnavailable
from anabranch.kafka import clients
from anabranch.kafka.clients import STALLED_AFTER_S
from anabranch.kafka.log_bounds import LogBounds
from anabranch.settings import Settings

CHUNK_RECORDS = 4096
"""Records of one chunk: between two chunks the caller may do other work."""
RANGE_FETCH_BYTES = 8 << 20
"""Long ranges are read, and each fetch is waited for."""
RECORD_FETCH_BYTES = 65_536
"""One record is read, not what follows it."""
IDLE_MS = 20
RECORD_TIMEOUT_S = 30


class PartitionReader(Protocol):
    """Reads ranges of partitions."""

    def read(self, partition: TopicPartition, start: int, end: int) -> Iterator[list[ConsumerRecord]]:
        """Committed records from offset `start` up to `end`, in chunks; an empty chunk while none arrives.

        Raises `BrokerUnavailable` after `STALLED_AFTER_S` without progress, and `OffsetOutOfRangeError` if the log does
        not hold the range: nothing is skipped.
        """

    def close(self) -> None:
        """Close the reader."""


class LogReader(Protocol):
    """Reads the topics of this Anabranch."""

    def partition_reader(self) -> PartitionReader:
        """A reader for long ranges, to be closed by the caller. Raises `BrokerUnavailable`."""

    def first_record_from(self, partition: TopicPartition, offset: int) -> ConsumerRecord | None:
        """The first committed record at `offset` or behind it; None if none arrives in time."""

    def bounds(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, LogBounds]:
        """The ends of partitions, records of open transactions included."""

    def ranges_since(self, topic: str, timestamp_ms: int) -> dict[TopicPartition, range]:
        """By partition, the offsets from the first record with this timestamp or a later one to the end as of now.

        Records of open transactions are included. A partition without such a record is left out.
        """

    def read_to_end(self, topics: Iterable[str]) -> Iterator[ConsumerRecord]:
        """Every committed record of the topics up to their ends as of now."""

    def read_from(self, topic: str, start: Mapping[int, int]) -> Iterator[ConsumerRecord]:
        """Every committed record of a topic from `start` (partition to offset; 0 where absent) to its end as of now."""

    def close(self) -> None:
        """Close what is open."""


class KafkaPartitionReader:
    """A `PartitionReader` on a consumer of its own."""

    def __init__(self, settings: Settings) -> None:
        self._consumer: KafkaConsumer = clients.reader(
            settings, [], max_partition_fetch_bytes=RANGE_FETCH_BYTES, auto_offset_reset="none"
        )

    def read(self, partition: TopicPartition, start: int, end: int) -> Iterator[list[ConsumerRecord]]:
        """See `PartitionReader`. The consumer's position counts, for a transaction's markers are no records."""
        self._consumer.assign([partition])
        self._consumer.seek(partition, start)
        progress_at = time.monotonic()
        while (self._consumer.position(partition) or 0) < end:
            records = self._consumer.poll(timeout_ms=IDLE_MS, max_records=CHUNK_RECORDS).get(partition, [])
            yield [record for record in records if record.offset < end]
            if records:
                progress_at = time.monotonic()
            elif time.monotonic() - progress_at > STALLED_AFTER_S:
                raise BrokerUnavailable(
                    f"no record of {partition.topic}, partition {partition.partition} came for {STALLED_AFTER_S} s, "
                    f"before offset {end}"
                )

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()


class KafkaLogReader:
    """The `LogReader` of a real cluster."""

    def __init__(self, settings: Settings, record_timeout_s: float = RECORD_TIMEOUT_S) -> None:
        """`record_timeout_s`: how long `first_record_from` waits."""
        self._settings = settings
        self._record_timeout_s = record_timeout_s
        self._record_consumer: KafkaConsumer | None = None

    def partition_reader(self) -> PartitionReader:
        """See `LogReader`."""
        return KafkaPartitionReader(self._settings)

    def first_record_from(self, partition: TopicPartition, offset: int) -> ConsumerRecord | None:
        """See `LogReader`. One consumer serves all such reads."""
        if self._record_consumer is None:
            self._record_consumer = clients.reader(
                self._settings, [], max_partition_fetch_bytes=RECORD_FETCH_BYTES, fetch_max_wait_ms=10
            )
        consumer = self._record_consumer
        consumer.assign([partition])
        consumer.seek(partition, offset)
        deadline = time.monotonic() + self._record_timeout_s
        while time.monotonic() < deadline:
            for record in consumer.poll(timeout_ms=100, max_records=1).get(partition, ()):
                return record
        return None

    def bounds(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, LogBounds]:
        """See `LogReader`."""
        return clients.log_bounds(self._settings, partitions)

    def ranges_since(self, topic: str, timestamp_ms: int) -> dict[TopicPartition, range]:
        """See `LogReader`."""
        return clients.ranges_since(self._settings, topic, timestamp_ms)

    def read_to_end(self, topics: Iterable[str]) -> Iterator[ConsumerRecord]:
        """See `LogReader`."""
        return clients.read_to_end(self._settings, topics)

    def read_from(self, topic: str, start: Mapping[int, int]) -> Iterator[ConsumerRecord]:
        """See `LogReader`."""
        return clients.read_from(self._settings, topic, start)

    def close(self) -> None:
        """Close the consumer of single records, if there is one."""
        if self._record_consumer is not None:
            self._record_consumer.close()
