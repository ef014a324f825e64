"""Dead letters: records that cannot be decoded, published unchanged with their position in the log and the reason."""

from __future__ import annotations

from kafka.consumer.fetcher import ConsumerRecord
from msgspec import Struct

from anabranch.errors import AnabranchError
from anabranch.kafka.headers import Header, sendable
from anabranch.kafka.record_batches import UnreadableValue
from anabranch.kafka.records import OutboundRecord, batch_bytes
from anabranch.messages import DeadLetterCategory, shortened

POSITION_ONLY: frozenset[str] = frozenset({"too_large", "unreadable"})
"""Categories of records that cannot be published, or not even be read: their dead letters say only where they are."""
ADDED_HEADERS = ("topic", "partition", "offset", "category", "reason")
"""Headers of a dead letter, in this order, after the producer's headers, which may have the same names."""
MAX_DIGITS = 19
"""Digits of the largest offset."""
FRAME_BYTES = 128
"""More than a batch adds to the key and the value of its only record, if that has no headers."""


class DeadLetter(Struct, frozen=True):
    """A record that cannot be decoded, and the reason."""

    record: ConsumerRecord
    category: DeadLetterCategory
    reason: str

    def to_record(self, topic: str) -> OutboundRecord:
        """The dead letter as a record of `topic`: key, value and headers of the original, then `ADDED_HEADERS`.

        A record that is too large to decode may also be too large to publish, because it came out of a compressed
        batch. Its dead letter has no key and no value: the original stays in its topic, at the given offset, for about
        as long as the dead letter is retained. So does a record that could not be read out of its batch.
        """
        record = self.record
        if self.category in POSITION_ONLY:
            return OutboundRecord(topic=topic, key=None, value=b"", headers=self._added_headers())
        headers = [*sendable(record.headers), *self._added_headers()]
        value = b"" if record.key is None and record.value is None else record.value  # no client sends two nulls
        return OutboundRecord(topic=topic, key=record.key, value=value, headers=headers)

    def _added_headers(self) -> list[Header]:
        record = self.record
        values = (record.topic, str(record.partition), str(record.offset), self.category, self.reason)
        return [(name, value.encode(errors="replace")) for name, value in zip(ADDED_HEADERS, values, strict=True)]


class NotReplayable(AnabranchError):
    """A record of the dead-letter topic that cannot be replayed; the message names the header that prevents it."""


class StoredDeadLetter(Struct, frozen=True):
    """A dead letter as read from its topic: the original record, and its position."""

    topic: str
    partition: int
    offset: int
    category: str
    reason: str
    key: bytes | None
    value: bytes | None
    headers: list[Header]
    """The producer's headers, without `ADDED_HEADERS`."""

    @classmethod
    def from_record(cls, record: ConsumerRecord) -> StoredDeadLetter:
        """The inverse of `DeadLetter.to_record`. Raises `NotReplayable` unless the last headers are `ADDED_HEADERS`."""
        producer_headers, added = record.headers[: -len(ADDED_HEADERS)], record.headers[-len(ADDED_HEADERS) :]
        values = {name: (value or b"").decode(errors="replace") for name, value in added}
        for name in ADDED_HEADERS:
            if name not in values:
                raise NotReplayable(f"header `{name}` is missing: Anabranch did not write this record")
        return cls(
            topic=values["topic"],
            partition=_parse_number(values, "partition"),
            offset=_parse_number(values, "offset"),
            category=values["category"],
            reason=values["reason"],
            key=record.key,
            value=None if values["category"] == "empty" else record.value,
            headers=sendable(producer_headers),
        )


def undecodable(record: ConsumerRecord, max_bytes: int) -> DeadLetter | None:
    """A dead letter for a record that could not be read out of its batch, or that is larger than `max_bytes`."""
    if isinstance(record.value, UnreadableValue):
        return DeadLetter(record, record.value.category, shortened(record.value.reason))
    return too_large(record, max_bytes)


def too_large(record: ConsumerRecord, max_bytes: int) -> DeadLetter | None:
    """A dead letter if a batch of the record alone would have more than `max_bytes`, else None.

    The broker limits the size of a compressed batch; this check limits what is decoded and published. So every other
    dead letter fits its topic, whose limit is `ENVELOPE_BYTES` higher than that of the events.
    """
    if not record.headers and len(record.value or b"") + len(record.key or b"") <= max_bytes - FRAME_BYTES:
        return None
    size = batch_bytes(record.key, record.value, record.headers)
    if size <= max_bytes:
        return None
    return DeadLetter(
        record, "too_large", f"{size} bytes with key, headers and framing: max_message_bytes is {max_bytes}"
    )


def _parse_number(headers: dict[str, str], name: str) -> int:
    text = headers[name]
    if not text.isdecimal() or len(text) > MAX_DIGITS:
        raise NotReplayable(f"header `{name}` is {text[:40]!r}, which is not a number")
    return int(text)
