"""List dead letters, and replay them: publish each original record to its topic again, exactly once."""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing

from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError
from msgspec import Struct, structs

from anabranch.kafka import clients
from anabranch.kafka.headers import sendable
from anabranch.kafka.record_batches import UnreadableValue
from anabranch.kafka.records import OutboundRecord
from anabranch.kafka.topics import Topics
from anabranch.kafka.transactional_producer import TransactionalProducer
from anabranch.messages import DeadLetterCategory
from anabranch.settings import Settings
from consumers import dead_letter_progress
from consumers.dead_letter_progress import NextOffsets
from consumers.runtime.dead_letter import POSITION_ONLY, NotReplayable, StoredDeadLetter, undecodable
from consumers.runtime.publishers import TransactionAborted

CHUNK_RECORDS = 100
"""Dead letters per transaction: at most about 100 MB, if every one has the maximum size."""
EXCERPT_BYTES = 200


class Source(Struct, frozen=True):
    """Position of the original record."""

    topic: str
    partition: int
    offset: int


class DeadLetterView(Struct, frozen=True, omit_defaults=True):
    """A dead letter for display; a field that its headers do not give is omitted."""

    partition: int
    offset: int
    replayed: bool
    size: int
    """Bytes of the payload."""
    payload: str
    """The first `EXCERPT_BYTES` of the payload as text."""
    key: str | None = None
    source: Source | None = None
    category: str | None = None
    reason: str | None = None
    refused: str | None = None
    """Why it cannot be replayed."""


class ReplayResult(Struct, frozen=True):
    """The outcome of a replay, or of one chunk of it."""

    sent: Counter[str]
    """Number of records by topic."""
    refused: list[str]
    """Position and reason of each dead letter that cannot be replayed."""


def list_newest(settings: Settings, limit: int, category: DeadLetterCategory | None = None) -> list[DeadLetterView]:
    """The newest `limit` dead letters (of one category, if given), the newest last. Reads the whole topic.

    Raises `ReplayProgressError`.
    """
    replayed_to = dead_letter_progress.read(settings).next_offsets
    newest: list[tuple[int, int, int, DeadLetterView]] = []
    for record in clients.read_to_end(settings, [Topics(settings).dead_letter]):
        view = _view(settings, record, replayed_to)
        if category is None or view.category == category:
            position = (record.timestamp, record.partition, record.offset)  # unique, so views are never compared
            (heapq.heappush if len(newest) < limit else heapq.heappushpop)(newest, (*position, view))
    return [view for *_, view in sorted(newest)]


def original_payload(settings: Settings, partition: int, offset: int) -> bytes:
    """The original value of the dead letter at a position of the dead-letter topic; empty if it was null.

    Raises `NotReplayable` if there is no dead letter, or if it has only the position of an original that no longer
    exists or cannot be read.
    """
    topic = Topics(settings).dead_letter
    record = clients.record_at(settings, topic, partition, offset)
    if record is None:
        raise NotReplayable(f"{topic} holds nothing in partition {partition} at offset {offset}")
    dead_letter = StoredDeadLetter.from_record(record)
    if dead_letter.category in POSITION_ONLY:
        value = _read_original(settings, dead_letter).value
        if isinstance(value, UnreadableValue):
            raise NotReplayable(f"the original cannot be read: {value.reason}")
        return value or b""
    return dead_letter.value or b""


def preview_replay(settings: Settings, from_start: bool = False) -> ReplayResult:
    """What a replay would publish and refuse now."""
    total = ReplayResult(Counter(), [])
    start = {} if from_start else dead_letter_progress.read(settings).next_offsets
    with closing(clients.read_from(settings, Topics(settings).dead_letter, start)) as dead_letters:
        for records in _chunks(dead_letters, CHUNK_RECORDS):
            _, result = _originals(settings, records)
            total.sent.update(result.sent)
            total.refused.extend(result.refused)
    return total


def replay(settings: Settings, chunk: int = CHUNK_RECORDS, from_start: bool = False) -> Iterator[ReplayResult]:
    """Publish the original of every dead letter not replayed before, up to the topic's current end, in log order.

    With `from_start`, publish those that were replayed before too. One transaction publishes a chunk and records that
    it was replayed; its result is yielded after the commit. A record that is still too large becomes a new dead letter,
    after that end. Raises `ReplayProgressError`, and `TransactionAborted` if a chunk does not commit, for example
    because another replay has started: no dead letter is lost or replayed twice, and the next replay continues there.
    """
    # All replays share a transactional id. The new producer fences any other, and ends its transaction, before the
    # progress is read: nobody else changes it then.
    producer = TransactionalProducer(settings, f"{settings.group('dead_letter')}-replay")
    try:
        start = _start(settings, producer, from_start)
        with closing(clients.read_from(settings, Topics(settings).dead_letter, start)) as dead_letters:
            for records in _chunks(dead_letters, chunk):
                originals, result = _originals(settings, records)
                _publish(settings, producer, originals, {record.partition: record.offset + 1 for record in records})
                yield result
    finally:
        producer.abandon()


def _start(settings: Settings, producer: TransactionalProducer, from_start: bool) -> NextOffsets:
    """Where a replay starts, which is on the topic when this returns, also if there is nothing to replay."""
    if from_start:
        start: NextOffsets = dict.fromkeys(range(settings.partitions), 0)
        is_recorded = False
    else:
        start, is_recorded = dead_letter_progress.read(settings)
    if not is_recorded:
        _publish(settings, producer, [], start)
    return start


def _publish(
    settings: Settings, producer: TransactionalProducer, originals: Iterable[OutboundRecord], next_offsets: NextOffsets
) -> None:
    """One transaction. A fenced producer is not replaced: the replay that fenced it continues the work."""
    progress = dead_letter_progress.records(settings, next_offsets, time.time_ns() // 1_000_000)
    try:
        producer.publish([*originals, *progress], offsets={}, group_metadata=None)
    except KafkaError as error:
        raise TransactionAborted(
            f"the last transaction of the replay was rolled back: {producer.root_cause(error)}. Earlier ones are "
            "committed. Run the command again to replay the rest, unless another replay is running"
        ) from error


def _chunks(records: Iterable[ConsumerRecord], size: int) -> Iterator[list[ConsumerRecord]]:
    """The records in chunks of `size`."""
    chunk: list[ConsumerRecord] = []
    for record in records:
        chunk.append(record)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _originals(settings: Settings, records: Iterable[ConsumerRecord]) -> tuple[list[OutboundRecord], ReplayResult]:
    """The records to publish for a chunk of dead letters, and the counts of them."""
    originals, result = [], ReplayResult(Counter(), [])
    for record in records:
        try:
            original = _original(settings, StoredDeadLetter.from_record(record))
        except NotReplayable as error:
            result.refused.append(f"partition {record.partition}, offset {record.offset}: {error}")
        else:
            originals.append(original)
            result.sent[original.topic] += 1
    return originals, result


def _original(settings: Settings, dead_letter: StoredDeadLetter) -> OutboundRecord:
    """The original record, for its original partition, which holds its user's state. Raises `NotReplayable`.

    A record that is still too large or still cannot be read becomes a dead letter again.
    """
    _require_own(settings, dead_letter)
    topic, partition = dead_letter.topic, dead_letter.partition
    if dead_letter.category not in POSITION_ONLY:
        return OutboundRecord(topic, dead_letter.key, dead_letter.value, partition, dead_letter.headers)
    record = _read_original(settings, dead_letter)
    new_dead_letter = undecodable(record, settings.max_message_bytes)
    if new_dead_letter is not None:
        return new_dead_letter.to_record(Topics(settings).dead_letter)
    return OutboundRecord(topic, record.key, record.value, partition, sendable(record.headers))


def _require_own(settings: Settings, dead_letter: StoredDeadLetter) -> None:
    """Raises `NotReplayable` if no consumer of this Anabranch can have read the original record."""
    topics = Topics(settings)
    if dead_letter.topic not in (topics.events, topics.items):
        raise NotReplayable(
            f"header `topic` names {dead_letter.topic!r}, which is neither {topics.events} nor {topics.items}"
        )
    if dead_letter.partition >= settings.partitions:
        raise NotReplayable(
            f"header `partition` is {dead_letter.partition}, but {dead_letter.topic} has only {settings.partitions} "
            "partitions"
        )
    if dead_letter.key is None and dead_letter.value is None:
        raise NotReplayable(
            "header `category` is 'empty' and the key is null: clients cannot send a record without key and value"
        )


def _read_original(settings: Settings, dead_letter: StoredDeadLetter) -> ConsumerRecord:
    """The original record from its topic. Raises `NotReplayable` if it no longer exists."""
    topic, partition, offset = dead_letter.topic, dead_letter.partition, dead_letter.offset
    record = clients.record_at(settings, topic, partition, offset)
    if record is None:
        raise NotReplayable(
            f"header `offset` is {offset}, but partition {partition} of {topic} holds no record at that offset"
        )
    return record


def _view(settings: Settings, record: ConsumerRecord, replayed_to: Mapping[int, int]) -> DeadLetterView:
    payload = record.value or b""
    view = DeadLetterView(
        partition=record.partition,
        offset=record.offset,
        replayed=record.offset < replayed_to[record.partition],
        size=len(payload),
        payload=payload[:EXCERPT_BYTES].decode(errors="replace"),
        key=None if record.key is None else record.key.decode(errors="replace"),
    )
    try:
        dead_letter = StoredDeadLetter.from_record(record)
        view = structs.replace(
            view,
            source=Source(dead_letter.topic, dead_letter.partition, dead_letter.offset),
            category=dead_letter.category,
            reason=dead_letter.reason,
        )
        _require_own(settings, dead_letter)
    except NotReplayable as error:
        return structs.replace(view, replayed=False, refused=str(error))
    return view
