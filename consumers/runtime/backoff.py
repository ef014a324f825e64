"""Waiting longer after each failure in a row."""

from __future__ import annotations

import time
from collections.abc import Callable

FIRST_S, LONGEST_S = 0.2, 5.0


class Backoff:
    """Says whether it is time to try again."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._wait = FIRST_S
        self._until = 0.0

    @property
    def over(self) -> bool:
        """Whether enough time has passed since the last failure."""
        return self._monotonic() >= self._until

    def failed(self) -> None:
        """Wait, twice as long as after the failure before."""
        self._until = self._monotonic() + self._wait
        self._wait = min(2 * self._wait, LONGEST_S)

    def succeeded(self) -> None:
        """The next failure is a first one."""
        self._wait = FIRST_S
