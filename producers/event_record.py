"""An event as every producer of this project publishes it."""

from __future__ import annotations

from anabranch.kafka import topics
from anabranch.kafka.records import OutboundRecord
from anabranch.messages import Event, encode


def event_record(topic: str, event: Event) -> OutboundRecord:
    """The event under its user's key, so that all events of a user are in one partition, in order."""
    return OutboundRecord(topic, topics.key(event.user_id), encode(event))
