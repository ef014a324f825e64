"""A message of Segment's spec, as far as it is read, and when it happened. Pure.

Source: Segment, "Spec: Common fields" and "HTTP API source".
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Raw, Struct

from anabranch.codec import Codec
from producers.collector.forms.foreign_events import ForeignId, InvalidField, id_text

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIME_REMEDY = "give times in ISO 8601, such as 2026-01-31T12:00:00.000Z, or leave them out"


class SegmentMessage(Struct, frozen=True, kw_only=True, rename="camel"):
    """One call of the spec. What it has besides is skipped."""

    type: str | None = None
    """track, page, identify or alias; None: the path of the request says it."""
    message_id: ForeignId | None = None
    user_id: ForeignId | None = None
    anonymous_id: ForeignId | None = None
    previous_id: ForeignId | None = None
    """Of an alias."""
    event: str | None = None
    """The name of a track event."""
    timestamp: str | None = None
    original_timestamp: str | None = None
    sent_at: str | None = None
    properties: dict[str, Any] | None = None

    @property
    def user(self) -> str | None:
        """userId, else anonymousId; an empty one is none."""
        return id_text(self.user_id) or id_text(self.anonymous_id)


class KeyedBody(Struct, frozen=True, kw_only=True, rename="camel"):
    """The body of any call, or of a batch, as far as it says who sends it."""

    write_key: str | None = None

    def __repr__(self) -> str:
        return "KeyedBody(…)"


class SegmentBatch(Struct, frozen=True, kw_only=True, rename="camel"):
    """The body of /v1/batch."""

    batch: list[Raw]
    sent_at: str | None = None


messages = Codec(SegmentMessage, foreign=True)


def time_ms(message: SegmentMessage, batch_sent_at: str | None, received_ms: int) -> int:
    """When the message happened, in milliseconds since 1970, by this server's clock.

    `receivedAt - (sentAt - originalTimestamp)`, as the spec defines it, for `sentAt` and `receivedAt` are one moment on
    two clocks. `timestamp` stands for `originalTimestamp` where that is missing. Without `sentAt` the client's time
    counts, and without either, the time of reception. Raises `InvalidField`.
    """
    field = "originalTimestamp" if message.original_timestamp else "timestamp"
    original = _parsed(field, message.original_timestamp or message.timestamp)
    if original is None:
        return received_ms
    sent = _parsed("sentAt", message.sent_at or batch_sent_at)
    return original if sent is None else received_ms - (sent - original)


def _parsed(field: str, value: str | None) -> int | None:
    """Without an offset it is UTC."""
    if not value:
        return None
    try:
        moment = datetime.fromisoformat(value)
        return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError) as error:
        raise InvalidField(field, f"`{field}` is no time in ISO 8601", TIME_REMEDY) from error
