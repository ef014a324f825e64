"""Whether the log of events still is the one that was ranked: compared with the feedback, which names each event.

A log that lost its end may have grown again by other events, beyond every offset that a group knows of.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

from kafka import TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from anabranch import messages
from anabranch.kafka.log_bounds import LogBounds
from anabranch.kafka.log_reader import PartitionReader
from anabranch.kafka.log_tail import Steps, find_newest, search_backwards
from anabranch.messages import InvalidMessage


class RankedEvent(NamedTuple):
    """An event that was ranked, by its feedback."""

    offset: int
    event_id: str


class LogPart(NamedTuple):
    """A part of a partition's log."""

    partition: TopicPartition
    bounds: LogBounds


def find_agreed_end(reader: PartitionReader, events: LogPart, feedback: LogPart, next_offset: int) -> Steps[int]:
    """The offset up to which the log has the events that were ranked: `next_offset` if nothing contradicts.

    `feedback` is the part that was published about this log. If the newest event that was ranked is not where it was,
    the answer is the offset behind the newest one that is; what was there behind it had no feedback.
    """

    def read(record: ConsumerRecord) -> RankedEvent | None:
        ranked = read_ranked_event(record)
        return ranked if ranked is not None and ranked.offset < next_offset else None

    newest = yield from find_newest(reader, *feedback, read)
    if newest is None or newest.offset < events.bounds.start:
        return next_offset
    if (yield from _read_event_ids(reader, events, [newest.offset])) == {newest.offset: newest.event_id}:
        return next_offset

    def search(records: list[ConsumerRecord]) -> Steps[int | None]:
        ranked = [event for record in records if (event := read(record)) is not None]
        log = yield from _read_event_ids(reader, events, [event.offset for event in ranked])
        return max((event.offset + 1 for event in ranked if log.get(event.offset) == event.event_id), default=None)

    agreed = yield from search_backwards(reader, *feedback, search)
    return events.bounds.start if agreed is None else agreed


def read_ranked_event(feedback: ConsumerRecord) -> RankedEvent | None:
    """The event that a feedback is about; None for a record that is no feedback."""
    with suppress(InvalidMessage):
        message = messages.feedback.decode(feedback.value or b"")
        return RankedEvent(message.offset, message.event.event_id)
    return None


def _read_event_ids(reader: PartitionReader, events: LogPart, offsets: Iterable[int]) -> Steps[dict[int, str]]:
    """The ids of the events at these offsets, without those that the log does not have and what is no event."""
    in_log = sorted(offset for offset in offsets if events.bounds.start <= offset < events.bounds.end)
    ids: dict[int, str] = {}
    if in_log:
        for records in reader.read(events.partition, in_log[0], in_log[-1] + 1):
            for record in records:
                with suppress(InvalidMessage):
                    ids[record.offset] = messages.events.decode(record.value or b"").event_id
            yield
    return ids
