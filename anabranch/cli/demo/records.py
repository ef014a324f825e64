"""Reading back what a demo left on the topics."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from kafka import TopicPartition

from anabranch import clients, messages
from anabranch.cli.demo.summary import Answer, Place, Published
from anabranch.messages import Feedback
from anabranch.settings import Settings
from anabranch.topics import Topics

Offsets = dict[int, int]


@dataclass(frozen=True)
class Records:
    """Everything after the offsets at which the replay began."""

    events: dict[Place, Published]
    answers: list[Answer]
    feedback: list[Feedback]
    dead: list[Place]


def ends(settings: Settings, topic: str) -> Offsets:
    """The end offset of every partition of a topic, as of now."""
    with closing(clients.reader(settings, [topic])) as consumer:
        return {one.partition: end for one, end in consumer.end_offsets(list(consumer.assignment())).items()}


def lag(settings: Settings) -> int:
    """Events the rankers have not committed yet."""
    topic = Topics(settings).events
    group = settings.group("ranker")
    with closing(clients.admin(settings)) as admin:
        committed = admin.list_group_offsets({group: None})[group]
    return sum(
        end - (committed[partition].offset if (partition := TopicPartition(topic, number)) in committed else 0)
        for number, end in ends(settings, topic).items()
    )


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
