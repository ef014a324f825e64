"""Which events became dead letters: read from the time of the events on, and held in 16 bytes each."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
from kafka import TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from anabranch.kafka.records import OutboundRecord
from anabranch.kafka.topics import Topics
from anabranch.settings import Settings
from consumers.ranker.dead_letter_offsets import CLOCK_MARGIN_MS, DeadLetterOffsets
from consumers.runtime.dead_letter import DeadLetter
from tests.support.in_memory_kafka import APPENDED_MS, InMemoryKafka, InMemoryLogReader

TOPICS = Topics(Settings())
HOUR_MS = 3_600_000


def letter(partition: int, offset: int, letter_partition: int = 0, topic: str = TOPICS.events) -> OutboundRecord:
    """The dead letter of a record, for a partition of its own topic."""
    record = ConsumerRecord(topic, partition, 0, offset, 1, 1, b"u", b"{", [], None, 0, 0, 0)
    return DeadLetter(record, "invalid", "a reason").to_record(TOPICS.dead_letter)._replace(partition=letter_partition)


def finish(steps: Iterator[None]) -> None:
    for _ in steps:
        pass


def caught_up(kafka: InMemoryKafka, appended_ms: int = 0) -> DeadLetterOffsets:
    offsets = DeadLetterOffsets(kafka.log_reader(), TOPICS)
    finish(offsets.catch_up(appended_ms))
    return offsets


def test_dead_letters_are_known_by_the_position_of_their_event() -> None:
    kafka = InMemoryKafka()
    kafka.append(letter(1, 4_095, letter_partition=3))
    kafka.append(letter(1, 4_096))
    kafka.append(letter(2, 7))
    kafka.append(letter(2, 8, topic=TOPICS.items))
    kafka.append(OutboundRecord(TOPICS.dead_letter, b"u", b"no dead letter"))
    offsets = caught_up(kafka)
    held = [
        (partition, offset) for partition in range(4) for offset in range(9_000) if offsets.holds(partition, offset)
    ]
    assert held == [(1, 4_095), (1, 4_096), (2, 7)]


def test_dead_letters_from_before_the_events_are_not_read() -> None:
    kafka = InMemoryKafka()
    for offset in range(1_000):
        kafka.append(letter(0, offset))
    kafka.now_ms += HOUR_MS
    kafka.append(letter(0, 1_000))
    reader = kafka.log_reader()
    offsets = DeadLetterOffsets(reader, TOPICS)
    finish(offsets.catch_up(kafka.now_ms))
    assert reader.records_read[TOPICS.dead_letter] == 1
    assert offsets.holds(0, 1_000)


def test_the_clock_of_the_dead_letters_may_be_behind_that_of_the_events() -> None:
    kafka = InMemoryKafka()
    kafka.append(letter(0, 3))
    assert caught_up(kafka, APPENDED_MS + CLOCK_MARGIN_MS).holds(0, 3)
    assert not caught_up(kafka, APPENDED_MS + CLOCK_MARGIN_MS + 1).holds(0, 3)


def test_one_read_serves_the_partitions_that_are_recovered_together() -> None:
    kafka = InMemoryKafka()
    for offset in range(100):
        kafka.append(letter(offset % 4, offset, letter_partition=offset % 2))
    reader = kafka.log_reader()
    offsets = DeadLetterOffsets(reader, TOPICS)
    waiting = [offsets.catch_up(APPENDED_MS) for _ in range(4)]
    while waiting:
        waiting = [steps for steps in waiting if next(steps, "end") != "end"]
    assert all(offsets.holds(offset % 4, offset) for offset in range(100))
    assert reader.records_read[TOPICS.dead_letter] == 100


def test_a_read_of_earlier_events_adds_only_what_is_missing() -> None:
    kafka = InMemoryKafka()
    kafka.append(letter(0, 0))
    kafka.now_ms += HOUR_MS
    kafka.append(letter(0, 1))
    reader = kafka.log_reader()
    offsets = DeadLetterOffsets(reader, TOPICS)
    finish(offsets.catch_up(kafka.now_ms))
    assert not offsets.holds(0, 0)
    kafka.append(letter(0, 2))
    finish(offsets.catch_up(APPENDED_MS))
    assert [offsets.holds(0, offset) for offset in range(3)] == [True, True, True]
    assert reader.records_read[TOPICS.dead_letter] == 3


def test_a_read_that_is_given_up_leaves_the_next_one_to_do_it_all() -> None:
    kafka = InMemoryKafka()
    for offset in range(20):
        kafka.append(letter(0, offset))
    offsets = DeadLetterOffsets(kafka.log_reader(), TOPICS)
    given_up = offsets.catch_up()
    next(given_up)
    given_up.close()
    finish(offsets.catch_up())
    assert all(offsets.holds(0, offset) for offset in range(20))


def event(offset: int, value: bytes | None) -> ConsumerRecord:
    return ConsumerRecord(TOPICS.events, 0, 0, offset, 1, 1, b"u", value, [], None, 0, 0, 0)


def test_a_dead_letter_of_another_event_at_the_same_offset_is_told_by_its_bytes() -> None:
    kafka = InMemoryKafka()
    kafka.append(letter(0, 5))
    offsets = caught_up(kafka)
    assert offsets.holds_event(event(5, b"{"))
    assert not offsets.holds_event(event(5, b"of the log that was created again"))
    assert not offsets.holds_event(event(6, b"{"))


def test_a_dead_letter_without_the_bytes_of_its_event_counts_by_its_offset() -> None:
    kafka = InMemoryKafka()
    kafka.append(DeadLetter(event(5, b"x" * 9), "too_large", "a reason").to_record(TOPICS.dead_letter))
    kafka.append(DeadLetter(event(6, None), "empty", "a reason").to_record(TOPICS.dead_letter))
    offsets = caught_up(kafka)
    assert offsets.holds_event(event(5, b"x" * 9))
    assert offsets.holds_event(event(6, None))


def test_the_last_dead_letter_of_a_partition_is_known() -> None:
    kafka = InMemoryKafka()
    for offset in (5, 90, 7):
        kafka.append(letter(0, offset))
    offsets = caught_up(kafka)
    assert (offsets.end(0), offsets.end(1)) == (91, 0)


class MillionLetters(InMemoryLogReader):
    """A million dead letters, made when they are read."""

    headers = letter(0, 0).headers or []

    def ranges_since(self, topic: str, timestamp_ms: int) -> dict[TopicPartition, range]:
        return {TopicPartition(topic, 0): range(1_000_000)}

    def read(self, partition: TopicPartition, start: int, end: int) -> Iterator[list[ConsumerRecord]]:
        for first in range(start, end, 1_000):
            yield [self._record(offset) for offset in range(first, first + 1_000)]

    def _record(self, offset: int) -> ConsumerRecord:
        position = {"partition": b"%d" % (offset % 4), "offset": b"%d" % (10_000_000_000 + 10 * offset)}
        headers = [(name, position.get(name, value)) for name, value in self.headers]
        return ConsumerRecord(TOPICS.dead_letter, 0, 0, offset, 1, 1, b"u", b"{", headers, None, 0, 0, 0)


def test_a_million_dead_letters_take_few_megabytes_which_are_freed() -> None:
    offsets = DeadLetterOffsets(MillionLetters(InMemoryKafka()), TOPICS)
    before = psutil.Process().memory_info().rss
    finish(offsets.catch_up())
    assert psutil.Process().memory_info().rss - before < 48 << 20, "16 bytes each, and as much again to add them"
    assert offsets.holds(3, 10_000_000_000 + 10 * 999_999)
    assert not offsets.holds(3, 10_000_000_000 + 10 * 999_998)
    offsets.forget()
    assert not offsets.holds(3, 10_000_000_000 + 10 * 999_999)
