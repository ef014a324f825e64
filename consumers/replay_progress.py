"""How far dead letters have been replayed, as recorded on topic `dead-letter-replays`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import NamedTuple

from kafka import TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from anabranch import messages
from anabranch.errors import AnabranchError
from anabranch.kafka import clients
from anabranch.kafka.records import OutboundRecord
from anabranch.kafka.topics import Topics
from anabranch.messages import DeadLetterReplay, InvalidMessage, encode
from anabranch.settings import Settings

NextOffsets = Mapping[int, int]
"""By partition of the dead letters, the first one that has not been replayed."""


class ReplayProgressError(AnabranchError):
    """The record of what has been replayed cannot be read, or does not fit the dead letters."""


class ReplayProgress(NamedTuple):
    """What has been replayed."""

    next_offsets: NextOffsets
    """For every partition."""
    is_recorded: bool
    """Whether all of it is on the topic. If not, the rest is known by a consumer group, which forgets it."""


def read(settings: Settings) -> ReplayProgress:
    """The progress as of now. Raises `ReplayProgressError`.

    Earlier versions kept it in the committed offsets of a group, which brokers delete after seven days. They count for
    partitions of which the topic has nothing.
    """
    topics = Topics(settings)
    recorded: dict[int, int] = {}
    for record in clients.read_to_end(settings, [topics.dead_letter_replays]):
        partition, next_offset = _decode(record)
        recorded[partition] = next_offset
    with closing(clients.group_consumer(settings, settings.group("dead_letter"))) as consumer:
        partitions = clients.assign(consumer, [topics.dead_letter])
        committed = {source.partition: consumer.committed(source) for source in partitions}
        ends = consumer.end_offsets(partitions)
    known = {partition: offset for partition, offset in committed.items() if offset is not None} | recorded
    next_offsets = {source.partition: known.get(source.partition, 0) for source in partitions}
    _check_ends(next_offsets, ends)
    return ReplayProgress(next_offsets, is_recorded=known.keys() <= recorded.keys())


def records(settings: Settings, next_offsets: NextOffsets, now_ms: int) -> list[OutboundRecord]:
    """Records that state this progress."""
    topic = Topics(settings).dead_letter_replays
    return [
        OutboundRecord(topic, b"%d" % partition, encode(DeadLetterReplay(next_offset=next_offset, ts=now_ms)), 0)
        for partition, next_offset in next_offsets.items()
    ]


def _decode(record: ConsumerRecord) -> tuple[int, int]:
    """Partition and next offset; 0 for a tombstone."""
    try:
        partition = int((record.key or b"").decode("ascii"))
        next_offset = 0 if record.value is None else messages.dead_letter_replays.decode(record.value).next_offset
    except (InvalidMessage, ValueError) as error:
        raise ReplayProgressError(
            f"{record.topic}, partition {record.partition}, offset {record.offset}: {error}. Only `anabranch "
            "dead-letters replay` should write there. Remove the record, which makes nothing else unreadable"
        ) from error
    return partition, next_offset


def _check_ends(next_offsets: NextOffsets, ends: Mapping[TopicPartition, int]) -> None:
    for source, end in ends.items():
        if next_offsets[source.partition] > end:
            raise ReplayProgressError(
                f"partition {source.partition} of {source.topic} ends at offset {end}, but has been replayed up to "
                f"offset {next_offsets[source.partition]}: it was created anew, or has lost its end. "
                "`anabranch dead-letters replay --from-start` replays all that the topic has, and goes on from there"
            )
