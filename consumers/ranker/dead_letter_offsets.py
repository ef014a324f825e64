"""Which records of `events` became dead letters: no user state holds those."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing

import numpy as np
from kafka import TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from anabranch.kafka.log_reader import LogReader, PartitionReader
from anabranch.kafka.topics import Topics
from consumers.runtime.dead_letter import POSITION_ONLY, NotReplayable, StoredDeadLetter

RECORDS_PER_STEP = 1_000
CLOCK_MARGIN_MS = 600_000
"""How far the clocks of two brokers may be apart: a dead letter is appended after its event, but by another broker."""
MIN_ADDED = 1 << 14
NO_BYTES = 0
"""Instead of a hash: the dead letter does not have the bytes of its event."""


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
        self._letters: dict[int, _Letters] = defaultdict(_Letters)
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
        self._letters.clear()
        self._read_ranges.clear()

    def holds(self, partition: int, offset: int) -> bool:
        """Whether an event at this offset became a dead letter."""
        return partition in self._letters and bool(self._letters[partition].hashes(offset))

    def holds_event(self, event: ConsumerRecord) -> bool:
        """Whether this very event did: of a log that was truncated or created again, another had its offset before."""
        if event.partition not in self._letters:
            return False
        hashes = self._letters[event.partition].hashes(event.offset)
        return bool(hashes) and (NO_BYTES in hashes or _hash(event.key, event.value) in hashes)

    def end(self, partition: int) -> int:
        """The offset behind the last event of the partition that became a dead letter, 0 if none did."""
        return self._letters[partition].end if partition in self._letters else 0

    def _read_since(self, timestamp_ms: int) -> Iterator[None]:
        ranges = self._log_reader.ranges_since(self._topics.dead_letter, timestamp_ms)
        if not ranges:
            return
        with closing(self._log_reader.partition_reader()) as reader:
            for partition, needed in ranges.items():
                already_read = self._read_ranges.get(partition, range(needed.start, needed.start))
                yield from self._read(reader, partition, needed.start, already_read.start)
                yield from self._read(reader, partition, already_read.stop, needed.stop)
                self._read_ranges[partition] = range(
                    min(needed.start, already_read.start), max(needed.stop, already_read.stop)
                )

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
            hash_of_bytes = NO_BYTES if letter.category in POSITION_ONLY else _hash(letter.key, letter.value)
            self._letters[letter.partition].add(letter.offset, hash_of_bytes)


class _Letters:
    """The dead letters of one partition, by offset: 16 bytes each, and once more as much while some are added."""

    def __init__(self) -> None:
        self._offsets = np.empty(0, np.int64)
        """Ascending."""
        self._hashes = np.empty(0, np.int64)
        self._added = array("q")
        """Pairs of offset and hash that are not in the columns yet."""

    def add(self, offset: int, hash_of_bytes: int) -> None:
        """Add a dead letter, which may have been added before."""
        self._added.extend((offset, hash_of_bytes))
        if len(self._added) > max(MIN_ADDED, len(self._offsets)):
            self._settle()

    def hashes(self, offset: int) -> list[int]:
        """The hash of each dead letter of an event with this offset."""
        self._settle()
        first, last = np.searchsorted(self._offsets, (offset, offset + 1))
        hashes: list[int] = self._hashes[first:last].tolist()
        return hashes

    @property
    def end(self) -> int:
        """The offset behind the last one; 0 if there is none."""
        self._settle()
        return int(self._offsets[-1]) + 1 if len(self._offsets) else 0

    def _settle(self) -> None:
        if not self._added:
            return
        added = np.frombuffer(self._added, np.int64).reshape(-1, 2)
        offsets = np.concatenate([self._offsets, added[:, 0]])
        order = np.argsort(offsets, kind="stable")
        hashes = np.concatenate([self._hashes, added[:, 1]])[order]
        self._offsets, self._hashes = offsets[order], hashes
        self._added = array("q")


def _hash(key: bytes | None, value: bytes | None) -> int:
    """Of the bytes of an event; a dead letter does not tell an empty value from none."""
    return hash((key, value or b"")) or 1
