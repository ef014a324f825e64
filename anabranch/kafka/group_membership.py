"""Work-rounds for the group membership of kafka-python 3.0.12, each with its upstream issue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import IllegalStateError, LogTruncationError, NoOffsetForPartitionError, OffsetOutOfRangeError

NOT_ASSIGNED = (ValueError, IllegalStateError)
"""What kafka-python raises for a partition that was revoked this very moment."""


def fetch_metadata(consumer: KafkaConsumer) -> None:
    """Fetch the metadata of the cluster before the consumer joins its group.

    Without it the consumer joins, and joins again when the metadata arrives. That second join, unlike any that the
    group asks for, is never finished if its answer arrives after the time-out of the poll: the consumer then sends
    heartbeats for ever and fetches nothing. No upstream issue is known; dpkp/kafka-python#2617 mended a similar race.
    """
    consumer.topics()


def report_every_loss(consumer: KafkaConsumer) -> None:
    """Have the client report lost partitions also where the group removes it during a rejoin.

    The client asks once per rejoin whether its membership was lost, at the beginning. A member that is removed after
    that joins anew under another id, claims the partitions it had, and reports nothing, although other members have
    had them meanwhile. No upstream issue is known; dpkp/kafka-python#3016 added the report.
    """
    coordinator = consumer._coordinator
    reset_generation = coordinator.reset_generation

    def reset_and_ask_again(*arguments: Any, **options: Any) -> None:
        reset_generation(*arguments, **options)
        coordinator.rejoining = False

    coordinator.reset_generation = reset_and_ask_again


def drop_claim(assignor: CooperativeStickyAssignor) -> None:
    """Forget the partitions that the assignor would claim at the next rejoin.

    A member that the group has removed would claim them again, and the leader would believe the claim. No upstream
    issue is known.
    """
    assignor.member_assignment = None


def lost_positions(
    error: OffsetOutOfRangeError | LogTruncationError | NoOffsetForPartitionError,
) -> list[TopicPartition]:
    """The partitions that an error of `poll` is about."""
    partitions = error.divergent_offsets if isinstance(error, LogTruncationError) else error.args[0]
    return list(partitions)


def topic_id(consumer: KafkaConsumer, topic: str) -> str | None:
    """The id of a topic by the newest metadata of the consumer (KIP-516); None if the broker has not said it."""
    newest = consumer._cluster.topic_id(topic)
    return None if newest is None else str(newest)


def seek_all(consumer: KafkaConsumer, offsets: Mapping[TopicPartition, int]) -> None:
    """Seek each partition that is still assigned.

    It is also how a partition is paused, with the end of its log as the offset: `KafkaConsumer.pause` is no way, since
    a partition that is paused with part of a fetch still buffered is never fetched again, and `seek_to_end` takes
    effect later, which may be after a later `seek`. No upstream issue is known; dpkp/kafka-python#2981 made paused
    partitions keep their buffered fetches.
    """
    for partition, offset in offsets.items():
        with suppress(*NOT_ASSIGNED):
            consumer.seek(partition, offset)


def still_assigned(consumer: KafkaConsumer, partitions: Iterable[TopicPartition]) -> list[TopicPartition]:
    """Those of the partitions that the group has not taken away."""
    assigned = consumer.assignment()
    return [partition for partition in partitions if partition in assigned]
