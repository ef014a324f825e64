"""Batches as faulty and hostile producers send them: of every codec, damaged, or of far more than they seem to hold."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from kafka.consumer.fetcher import ConsumerRecord

from anabranch.kafka.record_batches import UnreadableValue
from tests.support.record_batches import CODECS, ENCODERS, ZSTD, read, record_bytes, seal

MAX_BATCH_BYTES = 1 << 20
"""The bound to read these batches with."""
BOMB = ENCODERS[ZSTD](b"\x00" * (64 << 20))
"""6 kB that decompress to 64 MB."""
CODEC_NUMBERS = 8
"""As many as the attributes of a batch can name."""


def through_batches(records: Sequence[ConsumerRecord], random_seed: int) -> list[ConsumerRecord]:
    """The records as a consumer reads them from batches, up to 5 % of which nobody can read or everybody reads wrongly.

    Offsets are those of the given records, which begin at 0, and so are partitions and timestamps.
    """
    fetched = b"".join(_batches(records, random.Random(random_seed)))
    read_back = read(fetched, MAX_BATCH_BYTES)
    assert [record.offset for record in read_back] == list(range(len(records)))
    return [
        record._replace(partition=original.partition, timestamp=original.timestamp)
        for record, original in zip(read_back, records, strict=True)
    ]


def unreadable_count(records: Sequence[ConsumerRecord]) -> int:
    """How many of the records nobody can read."""
    return sum(isinstance(record.value, UnreadableValue) for record in records)


def _batches(records: Sequence[ConsumerRecord], draw: random.Random) -> Iterator[bytes]:
    start = 0
    while start < len(records):
        end = min(len(records), start + draw.randint(1, 100))
        payload = record_bytes((record.key, record.value, record.headers) for record in records[start:end])
        yield _batch(payload, end - start, start, draw)
        start = end


def _batch(payload: bytes, count: int, base_offset: int, draw: random.Random) -> bytes:
    codec, fault = draw.choice((0, *CODECS)), draw.random()
    compressed = bytearray(ENCODERS[codec](payload))
    if fault < 0.01:
        codec, compressed = ZSTD, bytearray(BOMB)
    elif fault < 0.02:
        codec = draw.randrange(CODEC_NUMBERS)
    elif fault < 0.04:
        for _ in range(draw.randint(1, 5)):
            compressed[draw.randrange(len(compressed))] = draw.randrange(256)
    elif fault < 0.05:
        del compressed[draw.randrange(len(compressed)) :]
    return seal(bytes(compressed), count, codec, base_offset)
