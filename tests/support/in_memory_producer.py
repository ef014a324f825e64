"""A producer without transactions, on Kafka in memory."""

from __future__ import annotations

from typing import Any

from anabranch.kafka.records import OutboundRecord
from tests.support.in_memory_kafka import InMemoryKafka


class InMemoryProducer:
    """A `kafka.KafkaProducer` without transactions: what it sends is in the log at once."""

    def __init__(self, kafka: InMemoryKafka) -> None:
        self._kafka = kafka
        self.closed = False

    def send(self, topic: str, *, partition: int | None = None, **record: Any) -> AcknowledgedFuture:
        outbound = OutboundRecord(topic=topic, partition=partition, **record)
        self._kafka.before_publish([outbound])
        return AcknowledgedFuture(self._kafka.append(outbound))

    def flush(self, timeout: float) -> None:
        pass

    def close(self, timeout: float) -> None:
        self.closed = True


class AcknowledgedFuture:
    """The future of a record that the broker has acknowledged."""

    def __init__(self, offset: int) -> None:
        self.value = self
        self.offset = offset

    def succeeded(self) -> bool:
        return True
