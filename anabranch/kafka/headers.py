"""Record headers as Kafka has them: a name may be any bytes, a value may be null.

kafka-python 3.0.12 knows only names in UTF-8. At any other the consumer's `poll` raises `CorruptRecordError`, and if it
is called again it never returns: one record would stop every reader of its partition for good. What is here reads such
names and passes them on as the bytes they were. A null value is read, but no producer of kafka-python sends one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kafka.record import memory_records
from kafka.record.default_records import DefaultRecordBatch

Header = tuple[str, bytes]


class HeaderName(str):
    """A name that is not UTF-8: it reads with replacement characters and travels as the bytes it was."""

    raw: bytes

    def __new__(cls, raw: bytes) -> HeaderName:
        name = super().__new__(cls, raw.decode(errors="replace"))
        name.raw = raw
        return name

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """The bytes it was."""
        return self.raw


def sendable(headers: Iterable[tuple[str, bytes | None]]) -> list[Header]:
    """Headers of a consumed record, as a producer takes them: a null value becomes an empty one."""
    return [(name, value or b"") for name, value in headers]


def read_any_name() -> None:
    """Let every consumer of this process read header names that are not UTF-8, as `HeaderName`."""
    memory_records.DefaultRecordBatch = _Batch


class _Batch(DefaultRecordBatch):  # type: ignore[misc]
    """Reads as its parent does until a name does not decode; from there on by a buffer that can."""

    _buffer: bytearray

    def _read_msg(self) -> Any:
        try:
            return super()._read_msg()
        except UnicodeDecodeError:
            self._buffer = _Buffer(self._buffer)
            return super()._read_msg()


class _Buffer(bytearray):
    """Its slices decode to a `HeaderName` where they are not UTF-8."""

    def __getitem__(self, at: Any) -> Any:
        part = super().__getitem__(at)
        return _Buffer(part) if isinstance(at, slice) else part

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Text, or a `HeaderName`."""
        try:
            return super().decode(encoding, errors)
        except UnicodeDecodeError:
            return HeaderName(bytes(self))
