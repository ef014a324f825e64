"""The collector's publisher in memory: a test decides when the broker acknowledges, and whether."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from anabranch.messages import Event
from producers.collector.event_publisher import NotAcknowledged
from producers.identity_record import IdentifiedVisitor


class InMemoryPublisher:
    """Keeps what it is given; acknowledges at once, unless it `holds`, and fails every batch while it is `broken`."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.identities: list[IdentifiedVisitor] = []
        self.holds = False
        self.broken = False
        self._waiting: list[asyncio.Future[None]] = []

    def publish(self, events: Sequence[Event], identities: Sequence[IdentifiedVisitor]) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.events += events
        self.identities += identities
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
