"""Dead letters: messages that could not be read, as they came, with where they stood and why they are here."""

from __future__ import annotations

from typing import Literal

from kafka.consumer.fetcher import ConsumerRecord
from msgspec import Struct

from consumers.outgoing import Outgoing

Category = Literal["empty", "invalid", "wrong_key"]
"""Few, for they label a metric; the header `reason` says it in full."""


class DeadLetter(Struct, frozen=True):
    """A record that could not be read, and why."""

    record: ConsumerRecord
    category: Category
    reason: str

    def outgoing(self, topic: str) -> Outgoing:
        """The record's own key and bytes, with headers that name topic, partition, offset and reason."""
        record = self.record
        headers = [
            *record.headers,
            ("topic", record.topic.encode()),
            ("partition", str(record.partition).encode()),
            ("offset", str(record.offset).encode()),
            ("category", self.category.encode()),
            ("reason", self.reason.encode()),
        ]
        return Outgoing(topic=topic, key=record.key, value=record.value, headers=headers)
