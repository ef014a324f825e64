"""How far replays came, as recorded on topic `replays`: its records are part of the transactions of the replays.

A committed offset cannot say it: brokers delete those of a group that has been unused for seven days
(`offsets.retention.minutes`). The newest record of a key counts, and after a tombstone nothing is known.
"""

from __future__ import annotations

from kafka.consumer.fetcher import ConsumerRecord

from anabranch import messages
from anabranch.errors import AnabranchError
from anabranch.kafka import clients
from anabranch.kafka.records import OutboundRecord
from anabranch.kafka.topics import Topics
from anabranch.messages import InvalidMessage, ReplayProgress, encode
from anabranch.settings import Settings


class ReplayProgressError(AnabranchError):
    """The record of what has been replayed cannot be read, or does not fit what is to be replayed."""


def partition_key(partition: int) -> bytes:
    """Key of the progress of a partition of `events.dead-letter`."""
    return b"dead-letters/%d" % partition


def file_key(file_id: str) -> bytes:
    """Key of the progress of a file of events."""
    return f"file/{file_id}".encode()


def read(settings: Settings) -> dict[bytes, ReplayProgress]:
    """The progress by key, as of now. Raises `ReplayProgressError`, and `BrokerUnavailable` if the topic is missing."""
    newest = {record.key: record for record in clients.read_to_end(settings, [Topics(settings).replays])}
    return {key: _decode(record) for key, record in newest.items() if record.value is not None}


def to_record(settings: Settings, key: bytes, progress: ReplayProgress) -> OutboundRecord:
    """The record that states this progress."""
    return OutboundRecord(Topics(settings).replays, key, encode(progress), 0)


def _decode(record: ConsumerRecord) -> ReplayProgress:
    try:
        return messages.replays.decode(record.value)
    except InvalidMessage as error:
        raise ReplayProgressError(
            f"{record.topic}, partition {record.partition}, offset {record.offset}: {error}. Only `anabranch replay` "
            f"and `anabranch dead-letters replay` should write there. A tombstone with the key {record.key!r} takes "
            "the record back"
        ) from error
