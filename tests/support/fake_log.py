"""A consumer outside any group, on Kafka in memory, with the methods of `kafka.KafkaConsumer` that our code calls."""

from __future__ import annotations

from collections.abc import Iterable

from kafka import TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from tests.support.in_memory_kafka import InMemoryKafka


class FakeConsumer:
    """Reads every partition of its topics from the beginning, those of the last topic first."""

    def __init__(self, kafka: InMemoryKafka, topics: Iterable[str], partitions: int = 1) -> None:
        self._kafka = kafka
        self._positions = {TopicPartition(topic, number): 0 for topic in topics for number in range(partitions)}
        self.error: Exception | None = None
        """Raised once by the next `poll`."""
        self.closed = False
        self.partitions_of: dict[str, set[int]] = {}
        """What the metadata says of a topic to which partitions were added."""

    def assignment(self) -> set[TopicPartition]:
        return set(self._positions)

    def partitions_for_topic(self, topic: str) -> set[int]:
        return self.partitions_of.get(topic) or {
            source.partition for source in self._positions if source.topic == topic
        }

    def end_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {partition: self._kafka.end(partition.topic, partition.partition) for partition in partitions}

    def position(self, partition: TopicPartition) -> int:
        return self._positions[partition]

    def poll(self, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        polled: dict[TopicPartition, list[ConsumerRecord]] = {}
        for partition, position in reversed(list(self._positions.items())):
            records = self._kafka.logs[partition][position : position + max_records]
            if records:
                polled[partition] = records
                self._positions[partition] += len(records)
                max_records -= len(records)
        return polled

    def seek_to_beginning(self, *partitions: TopicPartition) -> None:
        for partition in partitions or self._positions:
            self._positions[partition] = 0

    def close(self) -> None:
        self.closed = True
