"""The collector's publisher in memory: a test decides when the broker acknowledges, and whether."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from anabranch.messages import Event
from producers.collector.event_publisher import NotAcknowledged


class InMemoryPublisher:
    """Keeps events; acknowledges at once, unless it `holds`, and fails every batch while it is `broken`."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.holds = False
        self.broken = False
        self._waiting: list[asyncio.Future[None]] = []

    def publish(self, events: Sequence[Event]) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.events += events
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
