"""What goes to Kafka: records to send and offsets to commit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kafka import TopicPartition
from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka.structs import OffsetAndMetadata

UNKNOWN_OFFSET = -1
"""The offset of a sent record where the broker did not say."""

Offsets = Mapping[TopicPartition, int]
"""The next offset to consume, by partition."""


class OutboundRecord(NamedTuple):
    """A record to send. With `partition` None the key decides."""

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int | None = None
    headers: list[tuple[str, bytes]] | None = None


def batch_bytes(key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> int:
    """At most how large an uncompressed batch of this record alone is: producers and brokers limit that size.

    It counts what frames the batch, the record and each header: 40,000 empty headers are 80,000 bytes.
    """
    size: int = DefaultRecordBatchBuilder.estimate_size_in_bytes(key, value, headers)
    return size


def offsets_and_metadata(offsets: Offsets) -> dict[TopicPartition, OffsetAndMetadata]:
    """Offsets in the form that kafka-python takes."""
    return {partition: OffsetAndMetadata(offset, "", -1) for partition, offset in offsets.items()}
