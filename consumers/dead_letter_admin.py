"""The dead letters: showing them, and putting them back where they came from, exactly once."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError
from msgspec import Struct, structs

from anabranch.kafka import clients
from anabranch.kafka.headers import sendable
from anabranch.kafka.records import Offsets, OutboundRecord, offsets_and_metadata
from anabranch.kafka.topics import Topics
from anabranch.kafka.transactional_producer import CLOSE_TIMEOUT_S
from anabranch.settings import Settings
from consumers.runtime.dead_letter import Category, NotReplayable, StoredDeadLetter, too_large
from consumers.runtime.publishers import TransactionAborted

CHUNK = 100
"""Letters of one transaction: of the largest size there is, some 100 MB."""
EXCERPT_BYTES = 200


class Source(Struct, frozen=True):
    """Where a record stood that could not be read."""

    topic: str
    partition: int
    offset: int


class DeadLetterView(Struct, frozen=True, omit_defaults=True):
    """A dead letter for people to look at; what its headers do not say is left out."""

    partition: int
    offset: int
    replayed: bool
    size: int
    """Bytes of the payload."""
    payload: str
    """Its first bytes as text."""
    key: str | None = None
    source: Source | None = None
    category: str | None = None
    reason: str | None = None
    refused: str | None = None
    """Why it cannot be replayed."""


class Replayed(Struct, frozen=True):
    """What became of some letters."""

    sent: Counter[str]
    """How many went to which topic."""
    refused: list[str]
    """Why each of the others stays, by its place among the dead letters."""


def show(settings: Settings, limit: int, category: Category | None = None) -> list[DeadLetterView]:
    """The newest `limit` dead letters, of one category if it is given, the newest last. Reads the whole topic."""
    replayed = _replayed(settings)
    newest: list[tuple[int, int, int, DeadLetterView]] = []
    for record in clients.read_to_end(settings, [Topics(settings).dead_letter]):
        one = _shown(settings, record, replayed)
        if category is None or one.category == category:
            place = (record.timestamp, record.partition, record.offset)  # unlike any other: `one` is never compared
            (heapq.heappush if len(newest) < limit else heapq.heappushpop)(newest, (*place, one))
    return [one for *_, one in sorted(newest)]


def payload(settings: Settings, partition: int, offset: int) -> bytes:
    """The bytes that could not be read, of the letter at a place among the dead letters; empty where there were none.

    Raises `NotReplayable` if there is no letter, or no bytes any more.
    """
    topic = Topics(settings).dead_letter
    record = clients.record_at(settings, topic, partition, offset)
    if record is None:
        raise NotReplayable(f"{topic} holds nothing in partition {partition} at offset {offset}")
    letter = StoredDeadLetter.from_record(record)
    return (_original(settings, letter).value if letter.category == "too_large" else letter.value) or b""


def waiting(settings: Settings) -> Replayed:
    """What a replay would do now."""
    found = Replayed(Counter(), [])
    with closing(_consumer(settings)) as consumer:
        for records in _chunks(consumer, CHUNK):
            _, one = _put_back(settings, records)
            found.sent.update(one.sent)
            found.refused.extend(one.refused)
    return found


def replay(settings: Settings, chunk: int = CHUNK) -> Iterator[Replayed]:
    """Put every letter back that was not replayed before, up to the topic's end as of now, in the topic's order.

    Letters and the offsets that say so are one transaction a chunk; what it did is told once it is committed. A record
    that is still unreadable becomes a new dead letter, after that end. Raises `TransactionAborted` where a chunk does
    not commit, as when another replay has begun since: no letter is lost or repeated, and a new replay goes on from
    there.
    """
    group = settings.group("dead_letter")
    # All replays share one transactional id, and this ends the one before: the offsets, read after it, cannot move.
    producer = clients.transactional_producer(settings, f"{group}-replay")
    try:
        with closing(_consumer(settings)) as consumer:
            for records in _chunks(consumer, chunk):
                outbound, replayed = _put_back(settings, records)
                offsets = {TopicPartition(one.topic, one.partition): one.offset + 1 for one in records}
                _publish(producer, outbound, offsets, consumer.group_metadata())
                yield replayed
    finally:
        producer.close(timeout=CLOSE_TIMEOUT_S)


def _publish(producer: KafkaProducer, records: Iterable[OutboundRecord], offsets: Offsets, membership: Any) -> None:
    """One transaction. What fenced the producer goes on in its place, so it is not replaced."""
    try:
        producer.begin_transaction()
        for topic, key, value, partition, headers in records:
            producer.send(topic, key=key, value=value, partition=partition, headers=headers)
        producer.send_offsets_to_transaction(offsets_and_metadata(offsets), membership)
        producer.commit_transaction()
    except KafkaError as error:
        with suppress(KafkaError):  # the next replay would end it in any case
            producer.abort_transaction()
        raise TransactionAborted(
            f"the replay was rolled back: {error}. What was replayed so far is; unless another replay is at work, run "
            "this again for the rest"
        ) from error


def _consumer(settings: Settings) -> KafkaConsumer:
    """A consumer at the first letter that was never replayed of each partition. It is no member of its group."""
    consumer = clients.group_consumer(settings, settings.group("dead_letter"))
    clients.assign(consumer, [Topics(settings).dead_letter])
    return consumer


def _replayed(settings: Settings) -> dict[int, int]:
    """The next offset to replay of each partition."""
    with closing(_consumer(settings)) as consumer:
        return {at.partition: consumer.committed(at) or 0 for at in consumer.assignment()}


def _chunks(consumer: KafkaConsumer, size: int) -> Iterator[list[ConsumerRecord]]:
    """Records from the consumer's positions to the topic's end as of now, some at a time."""
    chunk: list[ConsumerRecord] = []
    for record in clients.drain(consumer):
        chunk.append(record)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _put_back(settings: Settings, records: Iterable[ConsumerRecord]) -> tuple[list[OutboundRecord], Replayed]:
    """The messages that put letters back, and what is to be said of it."""
    outbound, replayed = [], Replayed(Counter(), [])
    for record in records:
        try:
            outbound.append(_returned(settings, StoredDeadLetter.from_record(record)))
            replayed.sent[outbound[-1].topic] += 1
        except NotReplayable as refused:
            replayed.refused.append(f"partition {record.partition}, offset {record.offset}: {refused}")
    return outbound, replayed


def _returned(settings: Settings, letter: StoredDeadLetter) -> OutboundRecord:
    """The message that puts a letter back where it came from, for there its user's state is. Raises `NotReplayable`."""
    _refuse_foreign(settings, letter)
    if letter.category != "too_large":
        return OutboundRecord(letter.topic, letter.key, letter.value, letter.partition, letter.headers)
    original = _original(settings, letter)
    again = too_large(original, settings.max_message_bytes)
    if again is not None:
        return again.to_record(Topics(settings).dead_letter)
    return OutboundRecord(letter.topic, original.key, original.value, letter.partition, sendable(original.headers))


def _refuse_foreign(settings: Settings, letter: StoredDeadLetter) -> None:
    """Raises `NotReplayable` for a letter of a record that nothing of this Anabranch consumed."""
    topics = Topics(settings)
    if letter.topic not in (topics.events, topics.items):
        raise NotReplayable(f"header `topic` names {letter.topic!r}, and is neither {topics.events} nor {topics.items}")
    if letter.partition >= settings.partitions:
        raise NotReplayable(f"header `partition` is {letter.partition}: {letter.topic} has {settings.partitions}")
    if letter.key is None and letter.value is None:
        raise NotReplayable("header `category` is 'empty', and there is no key either: no client sends such a record")


def _original(settings: Settings, letter: StoredDeadLetter) -> ConsumerRecord:
    """The record a letter is of, where it came from. Raises `NotReplayable` if it is not there any more."""
    record = clients.record_at(settings, letter.topic, letter.partition, letter.offset)
    if record is None:
        raise NotReplayable(
            f"header `offset` is {letter.offset}, which partition {letter.partition} of {letter.topic} lacks"
        )
    return record


def _shown(settings: Settings, record: ConsumerRecord, replayed: Mapping[int, int]) -> DeadLetterView:
    payload = record.value or b""
    shown = DeadLetterView(
        partition=record.partition,
        offset=record.offset,
        replayed=record.offset < replayed[record.partition],
        size=len(payload),
        payload=payload[:EXCERPT_BYTES].decode(errors="replace"),
        key=None if record.key is None else record.key.decode(errors="replace"),
    )
    try:
        letter = StoredDeadLetter.from_record(record)
        shown = structs.replace(
            shown,
            source=Source(letter.topic, letter.partition, letter.offset),
            category=letter.category,
            reason=letter.reason,
        )
        _refuse_foreign(settings, letter)
    except NotReplayable as refused:
        return structs.replace(shown, replayed=False, refused=str(refused))
    return shown
