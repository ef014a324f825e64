"""Doing something only once in a while."""

from __future__ import annotations

import time
from collections.abc import Callable


class Every:
    """True once in so many seconds."""

    def __init__(self, seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._seconds = seconds
        self._next = 0.0

    def __call__(self) -> bool:
        now = self._monotonic()
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True
