"""The collector's publisher in memory: a test decides when the broker acknowledges, and whether."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from anabranch import messages
from anabranch.kafka.records import OutboundRecord
from anabranch.messages import Event
from producers.collector.event_publisher import NotAcknowledged
from producers.event_record import event_record
from producers.identity_record import IdentifiedVisitor, identity_record

EVENTS, IDENTITIES = "events", "identities"


class InMemoryPublisher:
    """Keeps what it is given; acknowledges at once, unless it `holds`, and fails every batch while it is `broken`."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.identities: list[IdentifiedVisitor] = []
        self.holds = False
        self.broken = False
        self._waiting: list[asyncio.Future[None]] = []

    def records(self, events: Sequence[Event], identities: Sequence[IdentifiedVisitor]) -> list[OutboundRecord]:
        return [
            *(event_record(EVENTS, event) for event in events),
            *(identity_record(IDENTITIES, visitor) for visitor in identities),
        ]

    def publish(self, records: Sequence[OutboundRecord]) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for topic, key, value, *_ in records:
            assert key and value
            if topic == EVENTS:
                self.events.append(messages.events.decode(value))
            else:
                identity = messages.identities.decode(value)
                self.identities.append(IdentifiedVisitor(anonymous_id=key.decode(), identity=identity))
        if self.holds:
            self._waiting.append(future)
        elif self.broken:
            future.set_exception(NotAcknowledged("the broker is away"))
        else:
            future.set_result(None)
        return future

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def acknowledge(self) -> None:
        """Acknowledge all that waits."""
        for future in self._waiting:
            future.set_result(None)
        self._waiting.clear()
