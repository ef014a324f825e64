"""Topics that the retraining job reads and writes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

from kafka.consumer.fetcher import ConsumerRecord
from msgspec import structs

from anabranch import messages
from anabranch.kafka import clients
from anabranch.kafka.log_bounds import LogBounds
from anabranch.kafka.offsets import bounds
from anabranch.kafka.producer import CheckedProducer
from anabranch.kafka.topics import Topics, key
from anabranch.messages import Codec, Event, Feedback, InvalidMessage, Neighbours, ReleaseNotice
from anabranch.settings import Settings
from models.data.event_store import EventStore, NextOffsets
from models.offline.catalogue_history import ItemVersion
from models.retraining.log_bounds import TopicPosition

Message = TypeVar("Message")
Advance = Callable[[int], None]


class LearnedEvent(NamedTuple):
    """An event, and the probability with which its item was shown; None where that is not known."""

    event: Event
    propensity: float | None = None


@dataclass(frozen=True)
class Collected:
    """What a run found on the topics."""

    events: int
    """New events."""
    missed: int
    """Records that retention had deleted unread; a few of them may have been markers of transactions."""


def is_empty(settings: Settings, topic: str) -> bool:
    """Whether a topic never had a record."""
    return all(log.end == 0 for log in bounds(settings, topic).values())


def collect(settings: Settings, store: EventStore, advance: Advance) -> Collected:
    """Append all new events on the broker to the event store.

    The job learns from `feedback`. Events before a partition's first feedback were never ranked, so they are read from
    `events`: all of them, while nothing ranks. Raises `LogTruncated` if a topic ends before the store's offsets.
    """
    next_offsets: NextOffsets = {topic: dict(offsets) for topic, offsets in store.next_offsets.items()}
    next_event, next_feedback = (next_offsets.setdefault(topic, {}) for topic in ("events", "feedback"))
    event_bounds = bounds(settings, Topics(settings).events)
    missed = _pass_deleted(settings, store, next_offsets, event_bounds)
    end_offsets = {partition: log.end for partition, log in event_bounds.items()}
    never_ranked = end_offsets.keys() - next_feedback.keys()
    start_offsets = end_offsets | {name: next_event.get(name, 0) for name in never_ranked}
    feedback = list(_new_feedback(settings, next_feedback, advance))
    events = list[LearnedEvent]()
    if start_offsets != end_offsets:
        read = clients.read_from(settings, Topics(settings).events, start_offsets)
        unranked = (record for record in read if record.partition in never_ranked)
        events += _events_before_feedback(unranked, feedback, next_event, advance)
    events += _not_read_yet(feedback, next_event)
    actions = [row for row in events if row.event.is_action]
    if events or missed:
        store.append([row.event for row in actions], next_offsets, [row.propensity for row in actions])
    return Collected(len(actions), missed)


def _pass_deleted(
    settings: Settings, store: EventStore, next_offsets: NextOffsets, event_bounds: Mapping[int, LogBounds]
) -> int:
    """Move `next_offsets` over records that retention has deleted; returns how many. Raises `LogTruncated`."""
    next_event, next_feedback = next_offsets["events"], next_offsets["feedback"]
    feedback_bounds = bounds(settings, Topics(settings).feedback)
    events = TopicPosition(Topics(settings).events, next_event, event_bounds)
    feedback = TopicPosition(Topics(settings).feedback, next_feedback, feedback_bounds)
    remedy = f"Move {store.folder.parent} away, and the next run reads the topics from their beginnings"
    for position in (events, feedback):
        position.require_not_truncated(remedy)
    unranked = {partition: offset for partition, offset in next_event.items() if partition not in next_feedback}
    unread = (replace(events, next_offsets=unranked), feedback)  # ranked events are read from their feedback
    missed = sum(position.log_missed() for position in unread)
    for offsets, position in zip((next_event, next_feedback), unread, strict=True):
        offsets.update({partition: position.bounds[partition].start for partition in position.missed()})
    return missed


def read_item_versions(settings: Settings) -> Iterator[ItemVersion]:
    """All that topic `items` still has: the newest record of each item, and older ones that are not compacted yet."""
    for record in clients.read_to_end(settings, [Topics(settings).items]):
        item = _decode(messages.items, record)
        item_id = item.item_id if item is not None else (record.key or b"").decode(errors="replace")
        yield ItemVersion(record.timestamp, item_id, item)


def last_gated_ms(notices: Mapping[str, ReleaseNotice]) -> int:
    """The gate has used the events before this time; 0 if it has used none, or only notices of old versions exist."""
    return max((notice.gate_to for notice in notices.values() if notice.gate_to is not None), default=0)


def publish_neighbours(settings: Settings, table: Iterable[Neighbours], advance: Advance) -> None:
    """Publish every row of the co-visit table, keyed by item."""
    topic = Topics(settings).neighbours
    with closing(clients.producer(settings)) as producer, CheckedProducer(producer, advance) as delivery:
        for row in table:
            delivery.send(topic, key(row.item_id), messages.encode(row))


def read_neighbours(settings: Settings) -> dict[str, Neighbours]:
    """Each item's published row of the co-visit table."""
    published: dict[str, Neighbours] = {}
    for record in clients.read_to_end(settings, [Topics(settings).neighbours]):
        row = _decode(messages.neighbours, record)
        if row is not None:
            published[row.item_id] = row
    return published


def now_ms() -> int:
    """Current time in UTC milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def _new_feedback(settings: Settings, next_feedback: dict[int, int], advance: Advance) -> Iterator[Feedback]:
    for record in clients.read_from(settings, Topics(settings).feedback, dict(next_feedback)):
        next_feedback[record.partition] = record.offset + 1
        advance(1)
        feedback = _decode(messages.feedback, record)
        if feedback is not None:
            yield structs.replace(feedback, event=_not_in_future(feedback.event, record))


def _events_before_feedback(
    records: Iterable[ConsumerRecord], feedback: Sequence[Feedback], next_event: dict[int, int], advance: Advance
) -> Iterator[LearnedEvent]:
    """The events of the records before each partition's first feedback; updates `next_event`."""
    first_ranked: dict[int, int] = {}
    for message in feedback:
        first_ranked.setdefault(message.partition, message.offset)
    for record in records:
        if record.offset >= first_ranked.get(record.partition, math.inf):
            continue
        next_event[record.partition] = record.offset + 1
        advance(1)
        event = _decode(messages.events, record)
        if event is not None:
            yield LearnedEvent(_not_in_future(event, record))


def _not_read_yet(feedback: Iterable[Feedback], next_event: dict[int, int]) -> Iterator[LearnedEvent]:
    """The events of feedback, but for those that were read from `events`; updates `next_event`."""
    for message in feedback:
        if message.offset >= next_event.get(message.partition, 0):
            next_event[message.partition] = message.offset + 1
            yield LearnedEvent(message.event, message.propensity)


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
