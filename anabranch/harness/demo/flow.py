"""The events of a segment, which flow for as long as a retraining job runs, however long that is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from anabranch.messages import Event

HORIZON_S = 120.0
"""While a job runs, this is the time in which the events would run out if their rate did not fall."""
MAX_EVENTS_PER_S = 200.0
"""Enough to see them flow, and few enough to leave the processor to the training."""
POLL_S = 0.1


@dataclass
class Flow:
    """Events that are taken in order: some while a job runs, the others at once."""

    events: Sequence[Event]
    taken: int = 0
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def while_(self, runs: Callable[[], bool]) -> Iterator[Event]:
        """Events while `runs()` is true. Their rate is a share of those that are left, so it falls, and some are left
        after a job that takes longer than expected."""
        due = self.monotonic()
        while self.taken < len(self.events):
            while (wait_s := due - self.monotonic()) > 0 and runs():
                self.sleep(min(wait_s, POLL_S))
            if not runs():
                return
            due += max(HORIZON_S / (len(self.events) - self.taken), 1 / MAX_EVENTS_PER_S)
            yield self._take()

    def rest(self) -> list[Event]:
        """The events that are left."""
        left = list(self.events[self.taken :])
        self.taken = len(self.events)
        return left

    def _take(self) -> Event:
        self.taken += 1
        return self.events[self.taken - 1]
