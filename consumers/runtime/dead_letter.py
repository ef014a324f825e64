"""Dead letters: messages that could not be read, as they came, with where they stood and why they are here."""

from __future__ import annotations

from typing import Literal

from kafka.consumer.fetcher import ConsumerRecord
from msgspec import Struct

from anabranch.errors import AnabranchError
from anabranch.kafka.headers import Header, sendable
from anabranch.kafka.records import OutboundRecord

Category = Literal["empty", "invalid", "wrong_key", "too_large"]
"""Few, for they label a metric; the header `reason` says it in full."""
ADDED = ("topic", "partition", "offset", "category", "reason")
"""Headers of a dead letter, in this order after the producer's own, which may have the same names."""
LONGEST_NUMBER = 19
"""Digits of the largest offset."""


class DeadLetter(Struct, frozen=True):
    """A record that could not be read, and why."""

    record: ConsumerRecord
    category: Category
    reason: str

    def to_record(self, topic: str) -> OutboundRecord:
        """The record's own key, bytes and headers, then headers that name topic, partition, offset and reason.

        What is too large to be read may be too large to be written, once it is no longer compressed with its like.
        Its letter only says where the record stands, and the record's topic keeps it about as long as the letter.
        """
        record = self.record
        if self.category == "too_large":
            return OutboundRecord(topic=topic, key=None, value=b"", headers=self._added())
        headers = [*sendable(record.headers), *self._added()]
        value = b"" if record.key is None and record.value is None else record.value  # no client sends two nulls
        return OutboundRecord(topic=topic, key=record.key, value=value, headers=headers)

    def _added(self) -> list[Header]:
        record = self.record
        place = (record.topic, str(record.partition), str(record.offset))
        values = (*place, self.category, self.reason)
        return [(name, value.encode(errors="replace")) for name, value in zip(ADDED, values, strict=True)]


class NotReplayable(AnabranchError):
    """A record among the dead letters that cannot be put back; the message names the header that is in the way."""


class StoredDeadLetter(Struct, frozen=True):
    """A dead letter read back: what the record it is of held, and where that stood."""

    topic: str
    partition: int
    offset: int
    category: str
    reason: str
    key: bytes | None
    value: bytes | None
    headers: list[Header]
    """The producer's own."""

    @classmethod
    def from_record(cls, record: ConsumerRecord) -> StoredDeadLetter:
        """What `DeadLetter.to_record` has made. Raises `NotReplayable` unless the last headers are those it adds."""
        own, added = record.headers[: -len(ADDED)], record.headers[-len(ADDED) :]
        found = {name: (value or b"").decode(errors="replace") for name, value in added}
        for name in ADDED:
            if name not in found:
                raise NotReplayable(f"header `{name}` is missing: no process of this project wrote the record")
        return cls(
            topic=found["topic"],
            partition=_number(found, "partition"),
            offset=_number(found, "offset"),
            category=found["category"],
            reason=found["reason"],
            key=record.key,
            value=None if found["category"] == "empty" else record.value,
            headers=sendable(own),
        )


def too_large(record: ConsumerRecord, largest: int) -> DeadLetter | None:
    """A dead letter for a record of more than `largest` bytes, key and headers counted; None for any other.

    A topic bounds what is sent, which is compressed: what comes out of it has no bound but this.
    """
    size = len(record.value or b"") + len(record.key or b"")
    if record.headers:
        size += sum(len(name.encode()) + len(value or b"") for name, value in record.headers)
    if size <= largest:
        return None
    return DeadLetter(record, "too_large", f"{size} bytes, key and headers counted: max_message_bytes is {largest}")


def _number(headers: dict[str, str], name: str) -> int:
    text = headers[name]
    if not text.isdecimal() or len(text) > LONGEST_NUMBER:
        raise NotReplayable(f"header `{name}` is {text[:40]!r} and no number")
    return int(text)
