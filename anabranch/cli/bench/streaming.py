"""A steady stream of events beside whatever is measured."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from anabranch.cli.bench.stand import Stand
from anabranch.messages import Event
from producers.pace import Pace


class Streaming:
    """A steady stream of events in a thread, while the block lasts."""

    def __init__(self, stand: Stand, rate: float) -> None:
        self._stop = threading.Event()
        stream = self._until_stopped(stand.bed.ahead.events())
        self._thread = threading.Thread(target=stand.bed.publish, args=(stream, Pace(per_second=rate)))

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
