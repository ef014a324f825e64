"""Any header that Kafka can hold is read, and written again as the bytes it was."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from kafka.record.memory_records import MemoryRecordsBuilder

from anabranch.kafka.headers import HeaderName, sendable
from tests.support import record_batches

Written = Sequence[tuple[str, bytes | None]]


def batch(*records: Written, compression: int = 0) -> bytes:
    """A batch of records with these headers, as a broker would hand it out."""
    builder = MemoryRecordsBuilder(magic=2, compression_type=compression, batch_size=1 << 20)
    for headers in records:
        builder.append(timestamp=1, key=b"k", value=b"v", headers=list(headers))
    builder.close()
    return bytes(builder.buffer())


def read(payload: bytes) -> list[list[tuple[str, bytes | None]]]:
    records = record_batches.read(payload)
    assert all((record.key, record.value) == (b"k", b"v") for record in records)
    return [record.headers for record in records]


@pytest.mark.parametrize("compression", range(5), ids=["none", "gzip", "snappy", "lz4", "zstd"])
def test_a_name_that_is_not_utf_8_is_read_and_stops_nothing(compression: int) -> None:
    odd = HeaderName(b"\xff\xfename")
    payload = batch([("a", b"1")], [("b", b"2"), (odd, b"3"), ("\u00e9", b"4")], [("c", b"5")], compression=compression)
    first, second, third = read(payload)
    assert (first, third) == ([("a", b"1")], [("c", b"5")])
    assert second == [("b", b"2"), ("\ufffd\ufffdname", b"3"), ("\u00e9", b"4")]


def test_a_name_that_was_read_is_written_as_the_bytes_it_was() -> None:
    payload = batch([(HeaderName(b"\xff\xfename"), b"1")], [("plain", b"2")])
    assert batch(*(sendable(headers) for headers in read(payload))) == payload


def test_a_null_value_is_read_and_passed_on_as_an_empty_one_which_is_all_a_producer_takes() -> None:
    (headers,) = read(batch([("a", None), ("b", b"")]))
    assert headers == [("a", None), ("b", b"")]
    assert sendable(headers) == [("a", b""), ("b", b"")]
