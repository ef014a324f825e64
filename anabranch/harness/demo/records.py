"""Reads back what a demo left on the topics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from anabranch import messages
from anabranch.harness.environment.reconciliation import EventPosition, LoggedEvent, LoggedRanking
from anabranch.kafka import clients
from anabranch.kafka.offsets import Offsets
from anabranch.kafka.topics import Topics
from anabranch.messages import Feedback
from anabranch.settings import Settings


@dataclass(frozen=True)
class DemoRecords:
    """The events of the replay and all messages that they led to."""

    events: dict[EventPosition, LoggedEvent]
    rankings: list[LoggedRanking]
    feedback: list[Feedback]
    dead_letters: list[EventPosition]


def read_records(settings: Settings, first_offsets: Offsets, advance: Callable[[int], None]) -> DemoRecords:
    """Read `events` from `first_offsets` on, and the topics of rankings, feedback and dead letters from their start."""
    topics = Topics(settings)
    records = DemoRecords({}, [], [], [])
    for record in clients.read_from(settings, topics.events, first_offsets):
        position = (record.partition, record.offset)
        records.events[position] = LoggedEvent(messages.events.decode(record.value), record.timestamp)
        advance(1)
    for record in clients.read_to_end(settings, [topics.rankings]):
        records.rankings.append(LoggedRanking(messages.rankings.decode(record.value), record.timestamp))
        advance(1)
    for record in clients.read_to_end(settings, [topics.feedback]):
        records.feedback.append(messages.feedback.decode(record.value))
        advance(1)
    for record in clients.read_to_end(settings, [topics.dead_letter]):
        headers = dict(record.headers)
        if headers["topic"].decode() == topics.events:
            records.dead_letters.append((int(headers["partition"]), int(headers["offset"])))
    return records
