"""Topics that the retraining job reads and writes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from typing import TypeVar

from kafka.consumer.fetcher import ConsumerRecord
from msgspec import structs

from anabranch import messages
from anabranch.kafka import clients
from anabranch.kafka.producer import CheckedProducer
from anabranch.kafka.topics import Topics, key
from anabranch.messages import Codec, Event, InvalidMessage, Item, Neighbours, ReleaseNotice
from anabranch.settings import Settings
from models.data.event_store import EventStore, NextOffsets

Message = TypeVar("Message")
Advance = Callable[[int], None]


def collect(settings: Settings, store: EventStore, from_feedback: bool, advance: Advance) -> int:
    """Append all new events on the broker to the event store; returns how many there are.

    With a live release the job reads `feedback`. Before the first release nothing is ranked, so there is no feedback
    and the job reads `events`; it stores the offsets, and later skips feedback on events that it has read.
    """
    next_offsets: NextOffsets = {topic: dict(offsets) for topic, offsets in store.next_offsets.items()}
    read = _new_feedback if from_feedback else _new_events
    events = list(read(settings, next_offsets, advance))
    if events:
        store.append(events, next_offsets)
    return len(events)


def read_catalogue(settings: Settings) -> list[Item]:
    """Every item without a tombstone, in the order of their newest records."""
    newest: dict[bytes, Item] = {}
    for record in clients.read_to_end(settings, [Topics(settings).items]):
        newest.pop(record.key, None)
        item = _decode(messages.items, record)
        if item is not None:
            newest[record.key] = item
    return list(newest.values())


def last_gated_ms(notices: Mapping[str, ReleaseNotice]) -> int:
    """The gate has used the events before this time; 0 if it has used none, or only notices of old versions exist."""
    return max((notice.gate_to for notice in notices.values() if notice.gate_to is not None), default=0)


def publish_neighbours(settings: Settings, table: Iterable[Neighbours], advance: Advance) -> None:
    """Publish every row of the co-visit table, keyed by item."""
    topic = Topics(settings).neighbours
    with closing(clients.producer(settings)) as producer, CheckedProducer(producer, advance) as delivery:
        for row in table:
            delivery.send(topic, key(row.item_id), messages.encode(row))


def now_ms() -> int:
    """Current time in UTC milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def _new_events(settings: Settings, next_offsets: NextOffsets, advance: Advance) -> Iterator[Event]:
    for record in _read_from(settings, Topics(settings).events, next_offsets.setdefault("events", {}), advance):
        event = _decode(messages.events, record)
        if event is not None:
            yield _not_in_future(event, record)


def _new_feedback(settings: Settings, next_offsets: NextOffsets, advance: Advance) -> Iterator[Event]:
    next_event_offsets = next_offsets.setdefault("events", {})
    for record in _read_from(settings, Topics(settings).feedback, next_offsets.setdefault("feedback", {}), advance):
        feedback = _decode(messages.feedback, record)
        if feedback is not None and feedback.offset >= next_event_offsets.get(feedback.partition, 0):
            next_event_offsets[feedback.partition] = feedback.offset + 1
            yield _not_in_future(feedback.event, record)


def _read_from(settings: Settings, topic: str, offsets: dict[int, int], advance: Advance) -> Iterator[ConsumerRecord]:
    """Records from `offsets` to the topic's end at the start of the call; updates `offsets` to the next ones."""
    for record in clients.read_from(settings, topic, dict(offsets)):
        offsets[record.partition] = record.offset + 1
        advance(1)
        yield record


def _not_in_future(event: Event, record: ConsumerRecord) -> Event:
    """The event with `ts` limited to its record's timestamp. Windows end at the newest event, so one event from a clock
    that is a week ahead would leave the gate a window without other events."""
    timestamp: int = record.timestamp
    return structs.replace(event, ts=timestamp) if 0 <= timestamp < event.ts else event


def _decode(codec: Codec[Message], record: ConsumerRecord) -> Message | None:
    """The message, or None for a tombstone and for an invalid message, which ranker and indexer report."""
    if record.value is None:
        return None
    try:
        return codec.decode(record.value)
    except InvalidMessage:
        return None
