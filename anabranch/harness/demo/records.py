"""Reads back what a demo left on the topics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from msgspec import structs

from anabranch import messages
from anabranch.harness.environment.reconciliation import EventPosition, LoggedEvent, LoggedRanking
from anabranch.kafka import clients
from anabranch.kafka.topics import Topics
from anabranch.messages import Feedback
from anabranch.settings import Settings


@dataclass(frozen=True)
class DemoRecords:
    """The events of a demo and all messages that they led to."""

    events: dict[EventPosition, LoggedEvent]
    rankings: list[LoggedRanking]
    feedback: list[Feedback]
    dead_letters: list[EventPosition]


def read_records(settings: Settings, advance: Callable[[int], None]) -> DemoRecords:
    """Read the topics of events, rankings, feedback and dead letters; without slates, since a year of them is large."""
    topics = Topics(settings)
    records = DemoRecords({}, [], [], [])
    for record in clients.read_to_end(settings, [topics.events]):
        position = (record.partition, record.offset)
        records.events[position] = LoggedEvent(messages.events.decode(record.value), record.timestamp)
        advance(1)
    for record in clients.read_to_end(settings, [topics.rankings]):
        ranking = structs.replace(messages.rankings.decode(record.value), slate=[])
        records.rankings.append(LoggedRanking(ranking, record.timestamp))
        advance(1)
    for record in clients.read_to_end(settings, [topics.feedback]):
        records.feedback.append(messages.feedback.decode(record.value))
        advance(1)
    for record in clients.read_to_end(settings, [topics.dead_letter]):
        headers = dict(record.headers)
        if headers["topic"].decode() == topics.events:
            records.dead_letters.append((int(headers["partition"]), int(headers["offset"])))
    return records
