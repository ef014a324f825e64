"""A steady stream of events in the background of a measurement."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import count

import msgspec

from anabranch.harness.bench.fixture import BenchFixture
from anabranch.messages import Event
from producers.completejourney import Purchases
from producers.pace import Pace


def repeat_forever(purchases: Purchases) -> Iterator[Event]:
    """The purchases again and again; each round has new event ids and session ids, and later times."""
    round_ms = int(purchases.ts.max() - purchases.ts.min()) + 1
    yield from purchases.events()
    for number in count(1):
        for event in purchases.events():
            yield msgspec.structs.replace(
                event,
                event_id=f"{event.event_id}-{number}",
                session_id=f"{event.session_id}-{number}",
                ts=event.ts + number * round_ms,
            )


class EventStreaming:
    """Publishes events at a fixed rate in a thread, for as long as the block lasts."""

    def __init__(self, fixture: BenchFixture, events: Iterator[Event], events_per_second: float) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=fixture.testbed.publish,
            args=(self._until_stopped(events), Pace(events_per_second=events_per_second)),
        )

    def __enter__(self) -> EventStreaming:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _until_stopped(self, events: Iterator[Event]) -> Iterator[Event]:
        for event in events:
            if self._stop.is_set():
                return
            yield event
