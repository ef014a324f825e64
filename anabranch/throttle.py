"""How often to do something: at most once per interval."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

FAILURES_INTERVAL_S = 10.0


class Throttle:
    """Limits an action, such as a log line, to once per interval: a call returns True at most once in `interval_s`."""

    def __init__(self, interval_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._interval_s = interval_s
        self._next = 0.0

    def __call__(self) -> bool:
        now = self._monotonic()
        if now < self._next:
            return False
        self._next = now + self._interval_s
        return True


class FailureLog:
    """Logs failures of one kind, which come by the hundred while a broker is down: one line per interval. For one
    thread."""

    def __init__(self, log: logging.Logger, what: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`what` names the failures, in the plural."""
        self._log = log
        self._what = what
        self._due = Throttle(FAILURES_INTERVAL_S, monotonic)
        self._count = 0

    def failed(self, error: BaseException) -> None:
        """Count a failure; if a line is due, log how many there were since the line before, and the newest error."""
        self._count += 1
        if self._due():
            self._log.warning("%d %s; the newest: %s: %s", self._count, self._what, type(error).__name__, error)
            self._count = 0
