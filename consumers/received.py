"""Events as they came from the log: decoded, or told why not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from kafka.consumer.fetcher import ConsumerRecord

from anabranch import messages, topics
from anabranch.messages import Event, InvalidMessage
from consumers.dead_letter import DeadLetter


class Received(NamedTuple):
    """An event, and where and when it stands in the log."""

    event: Event
    partition: int
    offset: int
    appended_ms: int
    """When the broker appended it (or the producer made the record, where the topic keeps that time)."""


def decode(records: Iterable[ConsumerRecord]) -> tuple[list[Received], list[DeadLetter]]:
    """The events among the records, in order, and the records that are none."""
    received, dead = [], []
    for record in records:
        one = _decode(record)
        if isinstance(one, Received):
            received.append(one)
        else:
            dead.append(one)
    return received, dead


def _decode(record: ConsumerRecord) -> Received | DeadLetter:
    if record.value is None:
        return DeadLetter(record, "empty", "an event has a value; a tombstone means nothing here")
    try:
        event = messages.events.decode(record.value)
    except InvalidMessage as invalid:
        return DeadLetter(record, "invalid", invalid.reason)
    if record.key != topics.key(event.user_id):
        # The key decides the partition, and the partition who holds the user's state.
        return DeadLetter(record, "wrong_key", f"the key must be the event's user_id, {event.user_id!r}")
    return Received(event, record.partition, record.offset, record.timestamp)
