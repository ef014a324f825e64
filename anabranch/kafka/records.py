"""What goes to Kafka: records to send and offsets to commit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from kafka import TopicPartition
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


def offsets_and_metadata(offsets: Offsets) -> dict[TopicPartition, OffsetAndMetadata]:
    """Offsets in the form that kafka-python takes."""
    return {partition: OffsetAndMetadata(offset, "", -1) for partition, offset in offsets.items()}
