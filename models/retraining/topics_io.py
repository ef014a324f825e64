"""What the job reads from and writes to the broker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import TypeVar

from kafka.consumer.fetcher import ConsumerRecord
from msgspec import structs

from anabranch import messages
from anabranch.kafka import clients
from anabranch.kafka.producer import Delivery
from anabranch.kafka.topics import Topics, key
from anabranch.messages import Codec, Event, InvalidMessage, Item, Neighbours, ReleaseNotice
from anabranch.settings import Settings
from models.data.event_store import EventStore, Positions

Message = TypeVar("Message")
Advance = Callable[[int], None]


def collect(settings: Settings, journal: EventStore, released: bool, advance: Advance) -> int:
    """Bring the journal up to the broker; how many events are new.

    Once a release is live, news comes as `feedback`. Before, nothing could be ranked, so the job reads `events`
    itself, and remembers how far: feedback on those events later is passed over.
    """
    positions: Positions = {topic: dict(offsets) for topic, offsets in journal.positions.items()}
    read = _new_feedback if released else _new_events
    events = list(read(settings, positions, advance))
    if events:
        journal.append(events, positions)
    return len(events)


def catalogue(settings: Settings) -> list[Item]:
    """Every item that is not gone, in the order in which they were first put."""
    newest: dict[bytes, Item] = {}
    for record in clients.read_to_end(settings, [Topics(settings).items]):
        newest.pop(record.key, None)
        item = _decode(messages.items, record)
        if item is not None:
            newest[record.key] = item
    return list(newest.values())


def notices(settings: Settings) -> dict[str, ReleaseNotice]:
    """The newest notice of every release, in the order in which releases were first announced."""
    newest: dict[str, ReleaseNotice] = {}
    for record in clients.read_to_end(settings, [Topics(settings).releases]):
        notice = _decode(messages.releases, record)
        if notice is not None:
            newest[notice.release] = notice
    return newest


def live(announced: dict[str, ReleaseNotice]) -> ReleaseNotice | None:
    """The release that serves: the one announced live last."""
    return max((one for one in announced.values() if one.status == "live"), key=lambda one: one.ts, default=None)


def used_to(announced: dict[str, ReleaseNotice]) -> int:
    """The gate has used events up to here, ms; 0 where it has used none, or the notices are too old to say."""
    return max((one.gate_to for one in announced.values() if one.gate_to is not None), default=0)


def publish_neighbours(settings: Settings, table: Iterable[Neighbours], advance: Advance) -> None:
    """Put every row of the co-visit table on its topic."""
    topic = Topics(settings).neighbours
    with closing(clients.producer(settings)) as producer, Delivery(producer, advance) as delivery:
        for row in table:
            delivery.send(topic, key(row.item_id), messages.encode(row))


def announce(settings: Settings, notice: ReleaseNotice) -> None:
    """Put a release's notice on its topic, and wait until the broker has it."""
    with closing(clients.producer(settings)) as producer, Delivery(producer) as delivery:
        delivery.send(Topics(settings).releases, key(notice.release), messages.encode(notice))


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def _new_events(settings: Settings, positions: Positions, advance: Advance) -> Iterator[Event]:
    for record in _read_from(settings, Topics(settings).events, positions.setdefault("events", {}), advance):
        event = _decode(messages.events, record)
        if event is not None:
            yield _happened(event, record)


def _new_feedback(settings: Settings, positions: Positions, advance: Advance) -> Iterator[Event]:
    seen = positions.setdefault("events", {})
    for record in _read_from(settings, Topics(settings).feedback, positions.setdefault("feedback", {}), advance):
        joined = _decode(messages.feedback, record)
        if joined is not None and joined.offset >= seen.get(joined.partition, 0):
            seen[joined.partition] = joined.offset + 1
            yield _happened(joined.event, record)


def _read_from(settings: Settings, topic: str, offsets: dict[int, int], advance: Advance) -> Iterator[ConsumerRecord]:
    """Records from `offsets` to the end as of now; `offsets` moves along."""
    for record in clients.read_from(settings, topic, dict(offsets)):
        offsets[record.partition] = record.offset + 1
        advance(1)
        yield record


def _happened(event: Event, record: ConsumerRecord) -> Event:
    """The event, no later than its record was made: one clock that is ahead would leave the gate an empty week."""
    made: int = record.timestamp
    return structs.replace(event, ts=made) if 0 <= made < event.ts else event


def _decode(codec: Codec[Message], record: ConsumerRecord) -> Message | None:
    """A message, or None for a tombstone or what is no message: ranker and indexer answer for those."""
    if record.value is None:
        return None
    try:
        return codec.decode(record.value)
    except InvalidMessage:
        return None
