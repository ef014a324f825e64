"""What the main loop of a process last said of itself: when it turned, and what the process waits for."""

from __future__ import annotations

import time
from collections.abc import Callable

STARTING = "the process is starting"


class LoopStatus:
    """Written by the main loop; read by the threads that serve `/health`, `/ready` and the metrics.

    A process whose main loop is stuck still answers: its other threads run on. So the loop reports every turn, and the
    age of the newest one is what tells.
    """

    def __init__(self, limit_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`limit_s`: a turn takes less than this; a loop without a turn for longer is stuck."""
        self.limit_s = limit_s
        self._monotonic = monotonic
        self._turned_at = monotonic()
        self._waits_for: str | None = STARTING

    def beat(self) -> None:
        """The loop makes progress, inside of a turn that takes long."""
        self._turned_at = self._monotonic()

    def turned(self, waits_for: str | None) -> None:
        """The loop ended a turn. `waits_for`: what is missing before the process does its work; None: nothing is."""
        self._waits_for = waits_for
        self.beat()

    @property
    def age_s(self) -> float:
        """Seconds since the newest turn, or since the start."""
        return self._monotonic() - self._turned_at

    @property
    def stuck(self) -> str | None:
        """Why the process counts as stuck; None if it does not."""
        age_s = self.age_s
        if age_s <= self.limit_s:
            return None
        return f"the main loop has not turned for {age_s:.0f} s: more than {self.limit_s:.0f} s"

    @property
    def not_ready(self) -> str | None:
        """Why the process does not do its work now; None if it does."""
        return self.stuck or self._waits_for
