"""A steady stream of events beside whatever is measured, for as long as that takes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import count

import msgspec

from anabranch.harness.bench.fixture import Stand
from anabranch.messages import Event
from producers.completejourney import Purchases
from producers.pace import Pace


def without_end(purchases: Purchases) -> Iterator[Event]:
    """The purchases; once they are used up the same again, as other events of other sessions, later; and so on."""
    later_ms = int(purchases.ts.max() - purchases.ts.min()) + 1
    yield from purchases.events()
    for turn in count(1):
        for event in purchases.events():
            yield msgspec.structs.replace(
                event,
                event_id=f"{event.event_id}-{turn}",
                session_id=f"{event.session_id}-{turn}",
                ts=event.ts + turn * later_ms,
            )


class Streaming:
    """A steady stream of these events in a thread, while the block lasts."""

    def __init__(self, stand: Stand, events: Iterator[Event], rate: float) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=stand.bed.publish, args=(self._until_stopped(events), Pace(per_second=rate))
        )

    def __enter__(self) -> Streaming:
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
