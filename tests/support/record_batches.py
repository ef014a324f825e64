"""Record batches as a broker hands them out, and their records as a consumer returns them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from kafka import TopicPartition, codec
from kafka.consumer.fetcher import ConsumerRecord, Fetcher
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kafka.record.util import calc_crc32c

from anabranch.kafka.record_batches import RecordBatches

HEADER: struct.Struct = DefaultRecordBatch.HEADER_STRUCT
NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
CODECS = (GZIP, SNAPPY, LZ4, ZSTD)
ENCODERS: dict[int, Callable[[bytes], bytes]] = {
    NONE: bytes,
    GZIP: codec.gzip_encode,
    SNAPPY: codec.snappy_encode,
    LZ4: codec.lz4_encode,
    ZSTD: codec.zstd_encode,
}
TIMESTAMP_MS = 1_700_000_000_000
PARTITION = TopicPartition("events", 0)

Written = tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes | None]]]
"""Key, value and headers."""


def record_bytes(records: Iterable[Written]) -> bytes:
    """The records of a batch, not compressed."""
    builder = DefaultRecordBatchBuilder(2, NONE, False, -1, -1, -1, 1 << 31)
    for offset, (key, value, headers) in enumerate(records):
        builder.append(offset, TIMESTAMP_MS, key, value, headers)
    return bytes(builder._buffer[HEADER.size :])


def seal(
    payload: bytes,
    count: int,
    attributes: int,
    base_offset: int = 0,
    last_offset: int | None = None,
    producer_id: int = -1,
) -> bytes:
    """A batch of `count` records with any payload, and the right checksum."""
    last_delta = count - 1 if last_offset is None else last_offset - base_offset
    fields = (attributes, last_delta, TIMESTAMP_MS, TIMESTAMP_MS, producer_id, -1, -1, count)
    sealed = bytearray(HEADER.pack(base_offset, HEADER.size - 12 + len(payload), 0, 2, 0, *fields) + payload)
    struct.pack_into(">I", sealed, 17, calc_crc32c(memoryview(sealed)[21:]))
    return bytes(sealed)


def batch(records: Sequence[Written], codec: int = NONE, base_offset: int = 0) -> bytes:
    """A batch of these records, compressed by a codec of kafka-python."""
    return seal(bytes(ENCODERS[codec](record_bytes(records))), len(records), codec, base_offset)


def read(fetched: bytes, max_batch_bytes: int = 1 << 20, fetch_offset: int = 0, **options: Any) -> list[ConsumerRecord]:
    """The records of a fetched partition, as `poll` returns them."""
    batches = RecordBatches(fetched, fetch_offset, max_batch_bytes)
    taken: list[ConsumerRecord] = Fetcher.PartitionRecords(fetch_offset, PARTITION, batches, **options).take()
    return taken
