"""No batch stops the reader of a partition: each of its records is read, or arrives as unreadable, with its offset."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.consumer.fetcher import ConsumerRecord, IsolationLevel
from kafka.errors import CorruptRecordError
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.legacy_records import LegacyRecordBatchBuilder
from kafka.record.util import calc_crc32

from anabranch.kafka.record_batches import LARGE_RECORD_BYTES, MAX_HEADERS, UnreadableValue
from tests.support.record_batches import (
    CODECS,
    ENCODERS,
    GZIP,
    HEADER,
    LZ4,
    NONE,
    SNAPPY,
    TIMESTAMP_MS,
    ZSTD,
    Written,
    batch,
    read,
    record_bytes,
    seal,
)

RECORDS: list[Written] = [(b"u%d" % number, b'{"n":%d}' % number, []) for number in range(20)]
BOUND = 1 << 20
TRANSACTIONAL, CONTROL = DefaultRecordBatch.TRANSACTIONAL_MASK, DefaultRecordBatch.CONTROL_MASK


def contents(records: Sequence[ConsumerRecord]) -> list[Written]:
    return [(record.key, record.value, record.headers) for record in records]


def unreadable(records: Sequence[ConsumerRecord]) -> dict[int, UnreadableValue]:
    """The unreadable values by offset. Their records have nothing else."""
    found = {record.offset: record.value for record in records if isinstance(record.value, UnreadableValue)}
    assert all((record.key, record.headers) == (None, []) for record in records if record.offset in found)
    return found


@pytest.mark.parametrize("codec", range(5))
def test_records_of_every_codec_are_read(codec: int) -> None:
    records = read(batch(RECORDS, codec, base_offset=7))
    assert contents(records) == RECORDS
    assert [record.offset for record in records] == list(range(7, 27))
    assert {record.timestamp for record in records} == {TIMESTAMP_MS}


@pytest.mark.parametrize("codec", CODECS)
def test_each_record_of_a_batch_beyond_the_bound_is_there_with_its_offset_alone(codec: int) -> None:
    bomb = batch([(b"k", b"\x00" * 600_000, []) for _ in range(3)], codec, base_offset=20)
    records = read(batch(RECORDS, codec) + bomb + batch(RECORDS, codec, base_offset=23), max_batch_bytes=BOUND)
    assert [record.offset for record in records] == list(range(43))
    values = unreadable(records)
    assert list(values) == [20, 21, 22]
    assert all(value == b"" and value.category == "too_large" for value in values.values())
    assert f"decompress to more than {BOUND}" in values[20].reason
    assert [records[offset].timestamp for offset in values] == [TIMESTAMP_MS] * 3


@pytest.mark.parametrize("codec", [*CODECS, 5, 6, 7])
def test_a_batch_of_other_bytes_than_its_codec_promises_is_unreadable(codec: int) -> None:
    values = unreadable(read(seal(b"\x01 no such codec \xff" * 9, 3, codec) + batch(RECORDS, base_offset=3)))
    assert {offset: value.category for offset, value in values.items()} == dict.fromkeys(range(3), "unreadable")
    assert "cannot be decompressed" in values[0].reason


@pytest.mark.parametrize("codec", range(5))
def test_the_records_before_one_that_cannot_be_parsed_are_read(codec: int) -> None:
    payload = record_bytes(RECORDS[:5]) + b"\x20\x00\x00" + b"\xff" * 20
    records = read(seal(bytes(ENCODERS[codec](payload)), 8, codec))
    assert contents(records[:5]) == RECORDS[:5]
    assert list(unreadable(records)) == [5, 6, 7]
    assert "cannot be parsed at offset 5" in records[5].value.reason


def test_too_few_records_and_too_many_are_unreadable_ones() -> None:
    payload = record_bytes(RECORDS)
    assert list(unreadable(read(seal(payload, 22, NONE)))) == [20, 21]
    assert list(unreadable(read(seal(payload, 18, NONE, last_offset=19)))) == [18, 19]


def test_a_record_that_claims_the_offset_of_another_is_unreadable() -> None:
    twice = record_bytes(RECORDS[:1]) * 2
    assert list(unreadable(read(seal(twice, 2, NONE)))) == [1]


def test_offsets_that_compaction_removed_are_not_missed() -> None:
    """A batch keeps the offsets of the records that were in it."""
    records = read(seal(record_bytes(RECORDS[:2]), 2, NONE, last_offset=9) + batch(RECORDS, base_offset=10))
    assert unreadable(records) == {}
    assert [record.offset for record in records][:3] == [0, 1, 10]


@pytest.mark.parametrize("codec", range(5))
def test_a_batch_from_which_compaction_removed_every_record_is_passed(codec: int) -> None:
    records = read(seal(b"", 0, codec, last_offset=9) + batch(RECORDS, base_offset=10))
    assert contents(records) == RECORDS


def test_reading_starts_in_the_middle_of_a_batch_readable_or_not() -> None:
    bomb = batch([(b"k", b"\x00" * 600_000, []) for _ in range(3)], ZSTD, base_offset=20)
    fetched = batch(RECORDS, LZ4) + bomb
    assert [record.offset for record in read(fetched, BOUND, fetch_offset=18)] == [18, 19, 20, 21, 22]
    assert [record.offset for record in read(bomb, BOUND, fetch_offset=22)] == [22]


def test_a_large_record_with_more_headers_than_memory_can_take_is_too_large() -> None:
    headers: Any = [("", b"")] * (MAX_HEADERS + 1)
    bomb = batch([(b"k", b"x" * LARGE_RECORD_BYTES, headers), *RECORDS], ZSTD)
    records = read(batch(RECORDS, base_offset=0) + seal(bomb[HEADER.size :], 21, ZSTD, 20), 8 * BOUND)
    values = unreadable(records)
    assert list(values) == list(range(20, 41))
    assert values[20].category == "too_large"
    assert f"has {MAX_HEADERS + 1} headers" in values[20].reason


def test_a_large_record_is_read_within_the_bound() -> None:
    large: Written = (b"k", b"\x00" * (10 << 20), [("h", b"1"), ("n", None)])
    assert contents(read(batch([large, *RECORDS], ZSTD), 32 * BOUND)) == [large, *RECORDS]


def test_a_batch_with_a_wrong_checksum_is_an_error() -> None:
    damaged = bytearray(batch(RECORDS, LZ4))
    damaged[-1] ^= 1
    with pytest.raises(CorruptRecordError, match="failed crc check"):
        read(bytes(damaged))


def marker(key: bytes, count: int = 1, base_offset: int = 0) -> bytes:
    """A control batch of producer 1."""
    payload = record_bytes([(key, b"\x00" * 6, [])] * count)
    return of_producer(seal(payload, count, CONTROL, base_offset, last_offset=base_offset))


def of_producer(sealed: bytes, producer_id: int = 1) -> bytes:
    """The same batch, sent by a producer in a transaction."""
    fields = HEADER.unpack_from(sealed)
    attributes, last_delta, count = fields[5], fields[6], fields[12]
    first_offset = fields[0]
    return seal(
        sealed[HEADER.size :], count, attributes | TRANSACTIONAL, first_offset, first_offset + last_delta, producer_id
    )


class Aborted:
    """What a fetch says of an aborted transaction."""

    producer_id, first_offset = 1, 0


def test_an_unreadable_batch_of_an_aborted_transaction_is_not_seen() -> None:
    options = {"isolation_level": IsolationLevel.READ_COMMITTED, "aborted_transactions": [Aborted]}
    aborted = of_producer(seal(b"no zstd", 3, ZSTD))
    abort = marker(struct.pack(">hh", 0, 0), base_offset=3)
    after = of_producer(seal(b"no zstd", 2, ZSTD, base_offset=4))
    records = read(aborted + abort + after, **options)
    assert list(unreadable(records)) == [4, 5]


def test_a_control_batch_without_its_marker_is_passed() -> None:
    """The log cleaner of a compacted topic removes markers, and keeps the last batch of each producer."""
    records = read(marker(b"", count=0) + batch(RECORDS, base_offset=1), isolation_level=IsolationLevel.READ_COMMITTED)
    assert contents(records) == RECORDS


def old_batch(magic: int, codec: int, count: int = 3) -> bytes:
    builder = LegacyRecordBatchBuilder(magic, codec, 1 << 20)
    for offset in range(count):
        builder.append(offset, timestamp=TIMESTAMP_MS, key=b"k", value=b"\x00" * 100)
    built = bytearray(builder.build())
    if codec != NONE:  # a broker gives it the offset of its last message
        struct.pack_into(">q", built, 0, count - 1)
    return bytes(built)


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("codec", [NONE, GZIP, SNAPPY])
def test_messages_of_the_formats_before_kafka_0_11_are_read_and_bounded_too(magic: int, codec: int) -> None:
    fetched = old_batch(magic, codec)
    assert [(record.offset, record.value) for record in read(fetched)] == [(n, b"\x00" * 100) for n in range(3)]
    if codec != NONE:
        values = unreadable(read(fetched, max_batch_bytes=300))
        assert {offset: value.category for offset, value in values.items()} == dict.fromkeys(range(3), "too_large")


def test_a_damaged_message_of_an_old_format_is_unreadable() -> None:
    damaged = bytearray(old_batch(1, GZIP))
    damaged[-8:] = b"\x00" * 8
    struct.pack_into(">I", damaged, 12, calc_crc32(memoryview(damaged)[16:]))
    values = unreadable(read(bytes(damaged)))
    assert {offset: value.category for offset, value in values.items()} == dict.fromkeys(range(3), "unreadable")


@given(
    st.integers(0, 7),
    st.binary(max_size=80),
    st.integers(1, 6),
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4),
)
def test_every_offset_of_any_batch_arrives_exactly_once(
    codec: int, payload: bytes, count: int, well_formed: bool, edits: list[tuple[int, int]]
) -> None:
    """Records that were compressed, with some bytes changed before or after; and any bytes."""
    if well_formed:
        payload = record_bytes(RECORDS[:count])
    edited = bytearray(bytes(ENCODERS[codec](payload)) if codec in ENCODERS else payload)
    for position, value in edits:
        if position < len(edited):
            edited[position] = value
    records = read(seal(bytes(edited), count, codec) + batch(RECORDS, base_offset=count), max_batch_bytes=5_000)
    assert [record.offset for record in records] == list(range(count + len(RECORDS)))
    assert contents(records[count:]) == RECORDS
    if well_formed and codec in ENCODERS and not edits:
        assert contents(records[:count]) == RECORDS[:count]


BOMB = """
import resource, sys
from tests.support.record_batches import read
fetched = sys.stdin.buffer.read()
in_use = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (in_use + {spare}, in_use + {spare}))
records = read(fetched, max_batch_bytes=1 << 20)
print(*(record.offset for record in records), {{record.value.category for record in records}})
"""


@pytest.mark.parametrize("codec", CODECS)
def test_a_batch_of_64_megabytes_is_accounted_for_by_a_process_that_could_not_hold_it(codec: int) -> None:
    fetched = batch([(b"k", b"\x00" * (16 << 20), []) for _ in range(4)], codec)
    program = BOMB.format(spare=32 << 20)
    ran = subprocess.run([sys.executable, "-c", program], input=fetched, capture_output=True, timeout=60)
    assert ran.stdout.decode().strip() == "0 1 2 3 {'too_large'}", ran.stderr.decode()
