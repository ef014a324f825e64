"""Reading back what a demo left on the topics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from anabranch import messages
from anabranch.harness.environment.reconciliation import Answer, Place, Published
from anabranch.kafka import clients
from anabranch.kafka.offsets import Offsets
from anabranch.kafka.topics import Topics
from anabranch.messages import Feedback
from anabranch.settings import Settings


@dataclass(frozen=True)
class Records:
    """Everything after the offsets at which the replay began."""

    events: dict[Place, Published]
    answers: list[Answer]
    feedback: list[Feedback]
    dead: list[Place]


def read(settings: Settings, start: Offsets, advance: Callable[[int], None]) -> Records:
    """Read `events` from `start`, and all that came of them."""
    topics = Topics(settings)
    records = Records({}, [], [], [])
    for record in clients.read_from(settings, topics.events, start):
        place = (record.partition, record.offset)
        records.events[place] = Published(messages.events.decode(record.value), record.timestamp)
        advance(1)
    for record in clients.read_to_end(settings, [topics.rankings]):
        records.answers.append(Answer(messages.rankings.decode(record.value), record.timestamp))
        advance(1)
    for record in clients.read_to_end(settings, [topics.feedback]):
        records.feedback.append(messages.feedback.decode(record.value))
        advance(1)
    for record in clients.read_to_end(settings, [topics.dead_letter]):
        headers = dict(record.headers)
        if headers["topic"].decode() == topics.events:
            records.dead.append((int(headers["partition"]), int(headers["offset"])))
    return records
