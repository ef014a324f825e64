"""Record headers whose names are not UTF-8, and null values. Kafka accepts both.

kafka-python 3.0.12 accepts only names in UTF-8. At any other name, a consumer's `poll` raises `CorruptRecordError`, and
the next `poll` never returns: one record would stop every reader of its partition for ever. This module reads such
names, and writes them as the original bytes. No upstream issue is known. kafka-python reads null values
(dpkp/kafka-python#2004), but its producers do not send them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kafka.record.default_records import DefaultRecord, DefaultRecordBatch

Header = tuple[str, bytes]


class HeaderName(str):
    """A name that is not UTF-8: text with replacement characters, sent as the original bytes."""

    raw: bytes

    def __new__(cls, raw: bytes) -> HeaderName:
        name = super().__new__(cls, raw.decode(errors="replace"))
        name.raw = raw
        return name

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """The original bytes."""
        return self.raw


def sendable(headers: Iterable[tuple[str, bytes | None]]) -> list[Header]:
    """Headers of a consumed record in the form that a producer accepts: null values become empty."""
    return [(name, value or b"") for name, value in headers]


def read_record(batch: DefaultRecordBatch) -> DefaultRecord:
    """The next record of a decompressed batch. Header names that are not UTF-8 are read as `HeaderName`.

    Raises `CorruptRecordError`, `ValueError` and `IndexError` if the bytes are no record.
    """
    try:
        return batch._read_msg()
    except UnicodeDecodeError:
        batch._buffer = _Buffer(batch._buffer)
        return batch._read_msg()


class _Buffer(bytearray):
    """Slices that are not UTF-8 decode to a `HeaderName`."""

    def __getitem__(self, index: Any) -> Any:
        part = super().__getitem__(index)
        return _Buffer(part) if isinstance(index, slice) else part

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Text, or a `HeaderName`."""
        try:
            return super().decode(encoding, errors)
        except UnicodeDecodeError:
            return HeaderName(bytes(self))
