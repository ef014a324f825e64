"""Decode records: events and items from producers, and the messages that Anabranch itself wrote.

A producer's record that cannot be decoded becomes a dead letter. A record on one of Anabranch's own topics that cannot
be decoded is counted and skipped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

import msgspec
from kafka.consumer.fetcher import ConsumerRecord

from anabranch import messages
from anabranch.kafka import topics
from anabranch.kafka.record_batches import UnreadableValue
from anabranch.messages import Codec, Event, Identifier, InvalidMessage, Item, ReleaseNotice, shortened
from anabranch.metrics import ConsumerMetrics
from consumers.runtime.dead_letter import DeadLetter, undecodable

Key = TypeVar("Key")
Message = TypeVar("Message")
log = logging.getLogger(__name__)


class DecodedEvent(NamedTuple):
    """An event with its partition, offset and append time."""

    event: Event
    partition: int
    offset: int
    appended_ms: int
    """Time when the broker appended it, or when the producer created it if the topic keeps `CreateTime`; ms UTC."""


class DecodedItem(NamedTuple):
    """An item and its id; `item` is None for a tombstone."""

    item_id: str
    item: Item | None


def decode_events(records: Iterable[ConsumerRecord], max_bytes: int) -> tuple[list[DecodedEvent], list[DeadLetter]]:
    """The events in the order of their records, and a dead letter for each record that is not a valid event.

    A record of more than `max_bytes` is not decoded; it becomes a dead letter.
    """
    events, dead_letters = [], []
    for record in records:
        decoded = _decode_event(record, max_bytes)
        if isinstance(decoded, DecodedEvent):
            events.append(decoded)
        else:
            dead_letters.append(decoded)
    return events, dead_letters


def decode_item(record: ConsumerRecord, max_bytes: int) -> DecodedItem | DeadLetter:
    """The item or tombstone in a record; a dead letter if it is neither, or has more than `max_bytes`."""
    if dead_letter := undecodable(record, max_bytes):
        return dead_letter
    if record.value is None:
        return _decode_tombstone(record)
    try:
        item = messages.items.decode(record.value)
    except InvalidMessage as invalid:
        return DeadLetter(record, "invalid", invalid.reason)
    if record.key != topics.key(item.item_id):
        # The topic is compacted: it keeps the newest message of each key.
        return _wrong_key(record, f"the key must be the item's item_id, {item.item_id!r}")
    return DecodedItem(item.item_id, item)


def decode_own(
    codec: Codec[Message], decode_key: Callable[[bytes], Key], record: ConsumerRecord, metrics: ConsumerMetrics
) -> tuple[Key, Message | None] | None:
    """Key and message of a record on a topic that only Anabranch writes; the message is None for a tombstone.

    Returns None for a record that cannot be decoded: something else wrote it. It is logged and counted, and does not
    stop the process, which would otherwise stop at the same record after every restart.
    """
    try:
        if isinstance(record.value, UnreadableValue):
            raise ValueError(record.value.reason)
        return decode_key(record.key or b""), None if record.value is None else codec.decode(record.value)
    except ValueError as error:
        log.warning(
            "skipping offset %d of partition %d of %s: %s", record.offset, record.partition, record.topic, error
        )
        metrics.passed_over.labels(record.topic).inc()
        return None


def decode_notice(record: ConsumerRecord, metrics: ConsumerMetrics) -> ReleaseNotice | None:
    """The notice in a record of `releases`; None for a tombstone, and for what cannot be decoded: see `decode_own`."""
    decoded = decode_own(messages.releases, bytes.decode, record, metrics)
    return None if decoded is None else decoded[1]


def _decode_event(record: ConsumerRecord, max_bytes: int) -> DecodedEvent | DeadLetter:
    if dead_letter := undecodable(record, max_bytes):
        return dead_letter
    if record.value is None:
        return DeadLetter(record, "empty", "an event has a value; a tombstone has no meaning on this topic")
    try:
        event = messages.events.decode(record.value)
    except InvalidMessage as invalid:
        return DeadLetter(record, "invalid", invalid.reason)
    if record.key != topics.key(event.user_id):
        # The key decides the partition, and the partition decides which process holds the user's state.
        return _wrong_key(record, f"the key must be the event's user_id, {event.user_id!r}")
    return DecodedEvent(event, record.partition, record.offset, record.timestamp)


def _decode_tombstone(record: ConsumerRecord) -> DecodedItem | DeadLetter:
    if record.key is None:
        return DeadLetter(record, "empty", "neither a key nor a value: a tombstone's key is the id of an item")
    try:
        return DecodedItem(msgspec.convert(record.key.decode(), Identifier), None)
    except (UnicodeDecodeError, msgspec.ValidationError) as error:
        return _wrong_key(record, f"a tombstone's key must be the id of an item: {error}")


def _wrong_key(record: ConsumerRecord, reason: str) -> DeadLetter:
    return DeadLetter(record, "wrong_key", shortened(reason))
