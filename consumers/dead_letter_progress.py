"""Which dead letters have been replayed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import NamedTuple

from kafka import TopicPartition

from anabranch.kafka import clients, replay_progress
from anabranch.kafka.records import OutboundRecord
from anabranch.kafka.replay_progress import ReplayProgressError, partition_key
from anabranch.kafka.topics import Topics
from anabranch.messages import ReplayProgress
from anabranch.settings import Settings

NextOffsets = Mapping[int, int]
"""By partition of the dead letters, the first one that has not been replayed."""


class DeadLetterProgress(NamedTuple):
    """What has been replayed."""

    next_offsets: NextOffsets
    """For every partition."""
    is_recorded: bool
    """Whether all of it is on topic `replays`. If not, the rest is known by a consumer group, which forgets it."""


def read(settings: Settings) -> DeadLetterProgress:
    """The progress as of now. Raises `ReplayProgressError`.

    Earlier versions kept it in the committed offsets of a group, which brokers delete after seven days. They count for
    partitions of which topic `replays` has nothing.
    """
    by_key = replay_progress.read(settings)
    with closing(clients.group_consumer(settings, settings.group("dead_letter"))) as consumer:
        partitions = clients.assign(consumer, [Topics(settings).dead_letter])
        committed = {source.partition: consumer.committed(source) for source in partitions}
        ends = consumer.end_offsets(partitions)
    recorded = {number: by_key[key].next for number in committed if (key := partition_key(number)) in by_key}
    progress = {number: offset for number, offset in committed.items() if offset is not None} | recorded
    next_offsets = {number: progress.get(number, 0) for number in committed}
    _check_ends(next_offsets, ends)
    return DeadLetterProgress(next_offsets, is_recorded=progress.keys() <= recorded.keys())


def records(settings: Settings, next_offsets: NextOffsets, now_ms: int) -> list[OutboundRecord]:
    """Records that state this progress."""
    return [
        replay_progress.to_record(settings, partition_key(partition), ReplayProgress(next=next_offset, ts=now_ms))
        for partition, next_offset in next_offsets.items()
    ]


def _check_ends(next_offsets: NextOffsets, ends: Mapping[TopicPartition, int]) -> None:
    for source, end in ends.items():
        if next_offsets[source.partition] > end:
            raise ReplayProgressError(
                f"partition {source.partition} of {source.topic} ends at offset {end}, but has been replayed up to "
                f"offset {next_offsets[source.partition]}: it was created anew, or has lost its end. "
                "`anabranch dead-letters replay --from-start` replays all that the topic has, and goes on from there"
            )
