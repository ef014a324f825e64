"""Batches of which every record is either read or accounted for: no batch stops the reader of a partition.

kafka-python 3.0.12 raises an error from `poll` for a batch that it cannot decompress or parse, and its next `poll`
never returns; and it decompresses a batch however large that becomes. No upstream issue is known. Here the records of
such a batch arrive one by one with their offsets, and with an `UnreadableValue` in place of what they held.

What stays an error is a batch whose checksum is wrong: it was damaged on its way or on a disk, nothing in its header
can be trusted, and another copy of it may be intact.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, Literal

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import CorruptRecordError
from kafka.record.default_records import DefaultRecord, DefaultRecordBatch
from kafka.record.legacy_records import LegacyRecord, LegacyRecordBatch
from kafka.record.memory_records import MemoryRecords
from kafka.record.util import decode_varint

from anabranch.kafka.decompression import BatchCorrupt, BatchTooLarge, decompress
from anabranch.kafka.headers import read_record

LARGE_RECORD_BYTES = 1 << 20
MAX_HEADERS = LARGE_RECORD_BYTES // 2
"""Of a large record: as many as fit in a smaller one. In memory, a header takes some thirty times its two bytes."""
CURRENT_FORMAT = 2
MIN_BATCH_BYTES: int = DefaultRecordBatch.HEADER_STRUCT.size


class UnreadableValue(bytes):
    """In place of a record's value, which nobody can read; the record has no key and no headers. It is empty."""

    category: Literal["too_large", "unreadable"]
    reason: str

    def __new__(cls, category: Literal["too_large", "unreadable"], reason: str) -> UnreadableValue:
        value = super().__new__(cls)
        value.category, value.reason = category, reason
        return value


def read_every_record(consumer: KafkaConsumer, max_batch_bytes: int) -> None:
    """Make a consumer deliver every record of every batch; decompress at most `max_batch_bytes` of a batch."""
    fetcher = consumer._fetcher
    read_partition: Callable[..., Any] = fetcher.PartitionRecords

    def read_partition_with_every_record(
        fetch_offset: int, partition: TopicPartition, records: MemoryRecords, **options: Any
    ) -> Any:
        batches = RecordBatches(records._buffer, fetch_offset, max_batch_bytes)
        return read_partition(fetch_offset, partition, batches, **options)

    fetcher.PartitionRecords = read_partition_with_every_record


class RecordBatches(MemoryRecords):  # type: ignore[misc]
    """The batches of one fetched partition."""

    def __init__(self, fetched: bytes, fetch_offset: int, max_batch_bytes: int) -> None:
        super().__init__(fetched)
        self._next_offset = fetch_offset
        self._max_batch_bytes = max_batch_bytes

    def next_batch(self) -> RecordBatch | OldBatch | None:
        """The next batch; None at the end. Raises `CorruptRecordError`."""
        fetched = self._next_slice
        if fetched is None:
            return None
        if len(fetched) < MIN_BATCH_BYTES or fetched[self.MAGIC_OFFSET] < CURRENT_FORMAT:
            return self._next_old_batch()
        self._cache_next()
        batch = RecordBatch(fetched, self._max_batch_bytes)
        self._next_offset = batch.next_offset
        return batch

    def _next_old_batch(self) -> OldBatch:
        batch = super().next_batch()
        first_offset, self._next_offset = self._next_offset, batch.base_offset + 1
        return OldBatch(batch, first_offset, self._max_batch_bytes)


class RecordBatch(DefaultRecordBatch):  # type: ignore[misc]
    """A batch of the current format. Iteration gives its records, those that cannot be read with `UnreadableValue`."""

    _buffer: bytes
    _pos: int

    def __init__(self, fetched: memoryview, max_bytes: int) -> None:
        super().__init__(fetched)
        self._max_bytes = max_bytes

    def __next__(self) -> Any:
        """The marker of a control batch; None if the log cleaner has removed it, and kept the batch for its producer.

        At such a batch, kafka-python 3.0.12 would end with `RuntimeError`. No upstream issue is known.
        """
        return super().__next__() if self.records_count else None

    def __iter__(self) -> Iterator[DefaultRecord]:
        offsets = range(self.base_offset, self.next_offset)
        return every_record(self._parse(), offsets, (self.max_timestamp, self.timestamp_type))

    def _parse(self) -> Iterator[DefaultRecord]:
        count, codec = self.records_count, self.compression_type
        if codec and count:
            self._buffer = decompress(codec, bytes(self._buffer[self._pos :]), self._max_bytes)
            self._pos = 0
        self._decompressed = True
        is_large = len(self._buffer) >= LARGE_RECORD_BYTES
        for _ in range(count):
            if is_large:
                _refuse_many_headers(self)
            yield read_record(self)
        if self._pos != len(self._buffer):
            raise CorruptRecordError(f"{len(self._buffer) - self._pos} bytes follow its last record")


class OldBatch:
    """A message of the formats before Kafka 0.11, or several, compressed in one. See `RecordBatch`.

    Its offset is that of the last message in it.
    """

    def __init__(self, batch: LegacyRecordBatch, first_offset: int, max_bytes: int) -> None:
        self._batch = batch
        self._first_offset = first_offset if batch.compression_type else batch.base_offset
        self._max_bytes = max_bytes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[LegacyRecord | DefaultRecord]:
        batch = self._batch
        offsets = range(min(self._first_offset, batch.base_offset), batch.base_offset + 1)
        return every_record(self._parse(), offsets, (batch._timestamp, batch.timestamp_type))

    def _parse(self) -> Iterator[LegacyRecord]:
        batch = self._batch
        if batch.compression_type:
            key_offset = batch.KEY_OFFSET_V1 if batch.magic else batch.KEY_OFFSET_V0
            _, payload = batch._read_key_value(key_offset)
            batch._buffer = memoryview(decompress(batch.compression_type, payload or b"", self._max_bytes))
            batch._decompressed = True
        for record in batch:
            if not record.validate_crc():
                raise CorruptRecordError("the checksum of a message in it is wrong")
            yield record


def every_record(
    parsed: Iterator[DefaultRecord | LegacyRecord], offsets: range, stamp: tuple[int | None, int | None]
) -> Iterator[DefaultRecord | LegacyRecord]:
    """The records of a batch with these offsets as far as they can be parsed, and unreadable ones for the others.

    Records may be missing from a compacted batch: those behind one that cannot be parsed count as unreadable, since
    nobody can say which they are. `stamp` is the timestamp and its type for unreadable records.
    """
    next_offset = offsets.start
    try:
        for record in parsed:
            if not next_offset <= record.offset < offsets.stop:
                raise CorruptRecordError(f"offset {record.offset} is not among {next_offset} to {offsets.stop - 1}")
            next_offset = record.offset + 1
            yield record
        return
    except BatchTooLarge as error:
        value = UnreadableValue("too_large", str(error))
    except BatchCorrupt as error:
        value = UnreadableValue("unreadable", f"its batch cannot be decompressed: {error}")
    except _PARSE_ERRORS as error:
        value = UnreadableValue("unreadable", f"its batch cannot be parsed at offset {next_offset}: {error}")
    for offset in range(next_offset, offsets.stop):
        yield DefaultRecord(0, offset, *stamp, None, value, [])


_PARSE_ERRORS = (CorruptRecordError, ValueError, IndexError, AssertionError, struct.error)
"""What kafka-python raises at bytes that are no records."""


def _refuse_many_headers(batch: DefaultRecordBatch) -> None:
    """Raises `BatchTooLarge` if the next record is large and has more than `MAX_HEADERS`."""
    buffer = batch._buffer
    length, position = decode_varint(buffer, batch._pos)
    if length < LARGE_RECORD_BYTES:
        return
    for _ in range(3):  # attributes, timestamp, offset
        _, position = decode_varint(buffer, position)
    for _ in range(2):  # key, value
        size, position = decode_varint(buffer, position)
        position += max(size, 0)
    count, _ = decode_varint(buffer, position)
    if count > MAX_HEADERS:
        raise BatchTooLarge(f"a record of its batch has {count} headers, of which {MAX_HEADERS} can be read")
