"""Messages of the topics, decoded, with their coordinates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, get_args

from kafka.consumer.fetcher import ConsumerRecord
from msgspec import Struct

from anabranch import messages
from anabranch.errors import UsageError
from anabranch.kafka import clients
from anabranch.kafka.record_batches import UnreadableValue
from anabranch.kafka.topics import TopicName, Topics
from anabranch.settings import Settings

EVENT_TOPICS: tuple[TopicName, ...] = ("events", "rankings", "feedback", "events.dead-letter")
"""The topics whose messages are about one event."""


class TopicMessage(Struct, frozen=True):
    """A record and its decoded message; one JSON line of `anabranch inspect`."""

    topic: TopicName
    partition: int
    offset: int
    timestamp: int
    """UTC milliseconds"""
    key: str | None
    headers: dict[str, str]
    message: Any
    """The decoded message; text if its topic holds no JSON messages; an object with `invalid` and `payload` if it is
    not valid; None for a tombstone."""

    def is_about(self, event_id: str) -> bool:
        """Whether this is the event, its ranking, its feedback or its dead letter."""
        match self.message:
            case messages.Event() as event:
                return event.event_id == event_id
            case messages.Ranking() as ranking:
                return ranking.cause.event_id == event_id
            case messages.Feedback() as feedback:
                return feedback.event.event_id == event_id
            case str() as payload:
                return f'"{event_id}"' in payload
        return False


def topic_name(name: str) -> TopicName:
    """The name, if it is a topic's. Raises `UsageError`."""
    names: tuple[TopicName, ...] = get_args(TopicName)
    for topic in names:
        if topic == name:
            return topic
    raise UsageError(f"{name} is not a topic; the topics are {', '.join(names)}")


def read_messages(settings: Settings, names: Sequence[TopicName]) -> Iterator[TopicMessage]:
    """Every message of the topics up to their current ends. Raises `TopicsDiffer` and `BrokerUnavailable`."""
    clients.require_topics(settings)
    topics = Topics(settings)
    name_of = {topics.name(name): name for name in names}
    for record in clients.read_to_end(settings, name_of):
        yield _message(name_of[record.topic], record)


def _message(topic: TopicName, record: ConsumerRecord) -> TopicMessage:
    return TopicMessage(
        topic=topic,
        partition=record.partition,
        offset=record.offset,
        timestamp=record.timestamp,
        key=None if record.key is None else record.key.decode(errors="replace"),
        headers={name: (value or b"").decode(errors="replace") for name, value in record.headers},
        message=_decode(topic, record.value),
    )


def _decode(topic: TopicName, value: bytes | None) -> Any:
    if isinstance(value, UnreadableValue):
        return {"invalid": value.reason, "payload": ""}
    codec: messages.Codec[Any] | None = getattr(messages, topic.replace("-", "_"), None)
    if value is None or codec is None:
        return None if value is None else value.decode(errors="replace")
    try:
        return codec.decode(value)
    except messages.InvalidMessage as invalid:
        return {"invalid": invalid.reason, "payload": value.decode(errors="replace")}
