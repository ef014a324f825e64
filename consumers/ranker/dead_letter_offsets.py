"""Which records of `events` became dead letters: no user state holds those."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing

from kafka import TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from anabranch.kafka.log_reader import LogReader, PartitionReader
from anabranch.kafka.topics import Topics
from consumers.runtime.dead_letter import NotReplayable, StoredDeadLetter

RECORDS_PER_STEP = 1_000
CLOCK_MARGIN_MS = 600_000
"""How far the clocks of two brokers may be apart: a dead letter is appended after its event, but by another broker."""
PAGE_BITS = 4_096


class DeadLetterOffsets:
    """The offsets of events that became dead letters, of those that were appended since some time.

    What could not be read once may be readable now, with a larger limit or a later version. It was never ranked, so a
    replay must not apply it: it would then be a duplicate when it is put back, and never be ranked at all.

    Dead letters are not read from the beginning of their topic, but from the time of the first event that is replayed.
    One read serves all partitions that are recovered at the same time.
    """

    def __init__(self, log_reader: LogReader, topics: Topics) -> None:
        self._log_reader = log_reader
        self._topics = topics
        self._offsets: dict[int, OffsetSet] = defaultdict(OffsetSet)
        self._read_ranges: dict[TopicPartition, range] = {}
        self._is_reading = False

    def catch_up(self, appended_ms: int = 0) -> Iterator[None]:
        """Read the dead letters of all events that were appended at this time or later, as of now.

        What was read before is not read again. Yields now and then, for other work.
        """
        while self._is_reading:  # for another partition
            yield
        self._is_reading = True
        try:
            yield from self._read_since(max(0, appended_ms - CLOCK_MARGIN_MS))
        finally:
            self._is_reading = False

    def forget(self) -> None:
        """Free the memory: no partition is being recovered."""
        self._offsets.clear()
        self._read_ranges.clear()

    def holds(self, partition: int, offset: int) -> bool:
        """Whether the event at this offset became a dead letter."""
        return partition in self._offsets and offset in self._offsets[partition]

    def _read_since(self, timestamp_ms: int) -> Iterator[None]:
        ranges = self._log_reader.ranges_since(self._topics.dead_letter, timestamp_ms)
        if not ranges:
            return
        with closing(self._log_reader.partition_reader()) as reader:
            for partition, wanted in ranges.items():
                known = self._read_ranges.get(partition, range(wanted.start, wanted.start))
                yield from self._read(reader, partition, wanted.start, known.start)
                yield from self._read(reader, partition, known.stop, wanted.stop)
                self._read_ranges[partition] = range(min(wanted.start, known.start), max(wanted.stop, known.stop))

    def _read(self, reader: PartitionReader, partition: TopicPartition, start: int, end: int) -> Iterator[None]:
        if start >= end:
            return
        for records in reader.read(partition, start, end):
            for first in range(0, len(records), RECORDS_PER_STEP):
                for record in records[first : first + RECORDS_PER_STEP]:
                    self._note(record)
                yield
            yield

    def _note(self, record: ConsumerRecord) -> None:
        try:
            letter = StoredDeadLetter.from_record(record)
        except NotReplayable:
            return
        if letter.topic == self._topics.events:
            self._offsets[letter.partition].add(letter.offset)


class OffsetSet:
    """A set of offsets, one bit for each, in pages of `PAGE_BITS`: a range of n offsets takes at most n / 8 bytes."""

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}

    def add(self, offset: int) -> None:
        """Add an offset, which may be in the set already."""
        page, bit = divmod(offset, PAGE_BITS)
        if page not in self._pages:
            self._pages[page] = bytearray(PAGE_BITS // 8)
        self._pages[page][bit // 8] |= 1 << bit % 8

    def __contains__(self, offset: int) -> bool:
        page, bit = divmod(offset, PAGE_BITS)
        return page in self._pages and bool(self._pages[page][bit // 8] >> bit % 8 & 1)
