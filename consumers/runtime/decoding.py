"""Events and items as they came from the log: decoded, or told why not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec
from kafka.consumer.fetcher import ConsumerRecord

from anabranch import messages
from anabranch.kafka import topics
from anabranch.messages import Event, Identifier, InvalidMessage, Item, shortened
from consumers.runtime.dead_letter import DeadLetter, too_large


class Received(NamedTuple):
    """An event, and where and when it stands in the log."""

    event: Event
    partition: int
    offset: int
    appended_ms: int
    """When the broker appended it (or the producer made the record, where the topic keeps that time)."""


class DecodedItem(NamedTuple):
    """An item, None where it is gone, and its id."""

    item_id: str
    item: Item | None


def decode(records: Iterable[ConsumerRecord], largest: int) -> tuple[list[Received], list[DeadLetter]]:
    """The events among the records, in order, and the records that are none; those of over `largest` bytes are not."""
    received, dead = [], []
    for record in records:
        one = _decode(record, largest)
        if isinstance(one, Received):
            received.append(one)
        else:
            dead.append(one)
    return received, dead


def decode_item(record: ConsumerRecord, largest: int) -> DecodedItem | DeadLetter:
    """What became of an item; a dead letter where the record does not say, or has over `largest` bytes."""
    if letter := too_large(record, largest):
        return letter
    if record.value is None:
        return _gone(record)
    try:
        item = messages.items.decode(record.value)
    except InvalidMessage as invalid:
        return DeadLetter(record, "invalid", invalid.reason)
    if record.key != topics.key(item.item_id):
        # The topic keeps the newest message of each key.
        return _wrong_key(record, f"the key must be the item's item_id, {item.item_id!r}")
    return DecodedItem(item.item_id, item)


def _decode(record: ConsumerRecord, largest: int) -> Received | DeadLetter:
    if letter := too_large(record, largest):
        return letter
    if record.value is None:
        return DeadLetter(record, "empty", "an event has a value; a tombstone means nothing here")
    try:
        event = messages.events.decode(record.value)
    except InvalidMessage as invalid:
        return DeadLetter(record, "invalid", invalid.reason)
    if record.key != topics.key(event.user_id):
        # The key decides the partition, and the partition who holds the user's state.
        return _wrong_key(record, f"the key must be the event's user_id, {event.user_id!r}")
    return Received(event, record.partition, record.offset, record.timestamp)


def _gone(record: ConsumerRecord) -> DecodedItem | DeadLetter:
    if record.key is None:
        return DeadLetter(record, "empty", "neither a key nor a value: a tombstone's key is the id of an item")
    try:
        return DecodedItem(msgspec.convert(record.key.decode(), Identifier), None)
    except (UnicodeDecodeError, msgspec.ValidationError) as error:
        return _wrong_key(record, f"a tombstone's key must be the id of an item: {error}")


def _wrong_key(record: ConsumerRecord, reason: str) -> DeadLetter:
    return DeadLetter(record, "wrong_key", shortened(reason))
