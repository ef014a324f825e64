"""How fast a replay publishes."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field

from anabranch.errors import UsageError

MIN_SLEEP_S = 0.001
"""Shorter waits are not worth a system call."""


@dataclass(frozen=True)
class Pace:
    """Full speed if both are None; else a multiple of data time, or a rate."""

    speed_up: float | None = None
    """Seconds of data time per second."""
    events_per_second: float | None = None

    @classmethod
    def parse(cls, text: str | None) -> Pace:
        """`1000x` is a multiple of data time, `500` or `500/s` a rate, None full speed. Raises `UsageError`."""
        if text is None:
            return FULL_SPEED
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(x|/s)?", text.strip())
        if match is None or float(match[1]) <= 0:
            raise UsageError(
                f"speed {text!r}: give a multiple of data time, as in 1000x, or events per second, as in 500/s"
            )
        number = float(match[1])
        return cls(speed_up=number) if match[2] == "x" else cls(events_per_second=number)

    def due_s(self, number: int, data_ms: int) -> float:
        """Seconds after the start at which event `number` (from 0) is due, `data_ms` after the first in data time."""
        if self.speed_up is not None:
            return data_ms / 1000 / self.speed_up
        return 0.0 if self.events_per_second is None else number / self.events_per_second


FULL_SPEED = Pace()


@dataclass
class DueTimes:
    """When the events of one replay are due, on the clock `time.monotonic`. The replay starts now."""

    pace: Pace
    _started_s: float = field(default_factory=time.monotonic)
    _first_ts: int | None = None

    def due_s(self, number: int, ts: int) -> float:
        """The time at which event `number` (from 0) is due, which happened at `ts` (UTC milliseconds)."""
        if self._first_ts is None:
            self._first_ts = ts
        return self._started_s + self.pace.due_s(number, ts - self._first_ts)


def sleep_until(due_s: float) -> None:
    """Sleep until a time of the clock `time.monotonic`, or not at all if it comes within `MIN_SLEEP_S`."""
    wait_s = due_s - time.monotonic()
    if wait_s > MIN_SLEEP_S:
        time.sleep(wait_s)
