"""The offsets of the indexer's group: which invalid items have become dead letters before a restart."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from kafka import KafkaConsumer, TopicPartition
from kafka.structs import OffsetAndMetadata

from anabranch.kafka.log_bounds import HeldPosition, LogBounds, describe, find_loss
from anabranch.kafka.log_reader import LogReader

log = logging.getLogger(__name__)


class CommittedOffsets:
    """Each offset is committed with the id of its topic: it says nothing of a later topic with the same name.

    The items themselves are read from the beginning at every start, so that a position is never needed for them.
    """

    def __init__(self, consumer: KafkaConsumer, log_reader: LogReader) -> None:
        self._consumer = consumer
        self._log_reader = log_reader
        self._topic_ids: dict[TopicPartition, str] = {}

    def load(self) -> dict[TopicPartition, int]:
        """The committed offset of every assigned partition; 0 where there is none, or it is of another log."""
        bounds = self._log_reader.bounds(self._consumer.assignment())
        self._topic_ids = {partition: log.topic_id for partition, log in bounds.items()}
        return {partition: self._load(partition, bounds[partition]) for partition in bounds}

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit offsets of the partitions that were loaded. Raises `KafkaError`."""
        self._consumer.commit(
            {
                partition: OffsetAndMetadata(offset, self._topic_ids[partition], -1)
                for partition, offset in offsets.items()
            }
        )

    def _load(self, partition: TopicPartition, bounds: LogBounds) -> int:
        committed = self._consumer.committed(partition, metadata=True)
        if committed is None:
            return 0
        held = HeldPosition(committed.offset, None, committed.metadata)
        loss = find_loss(held, bounds)
        if loss is None or loss.reason == "trimmed":  # what was trimmed is no item any more
            return int(committed.offset)
        log.warning("%s, partition %d %s. All of it is read again", *partition, describe(loss, held, bounds))
        return 0
