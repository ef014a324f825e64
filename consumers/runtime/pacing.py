"""When to try again, after a growing delay; and how much to do at once."""

from __future__ import annotations

import time
from collections.abc import Callable

FIRST_DELAY_S, MAX_DELAY_S = 0.2, 5.0
BATCH_S = 5.0
"""A batch should take no longer: the group waits for a busy member for a minute, and then takes its partitions away."""


class Backoff:
    """Exponential delay between attempts: it doubles with each failure in a row, up to `MAX_DELAY_S`."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._delay_s = FIRST_DELAY_S
        self._ready_at = 0.0

    @property
    def ready(self) -> bool:
        """Whether the delay after the last failure has passed."""
        return self._monotonic() >= self._ready_at

    def failed(self) -> None:
        """Start the delay, and double the next one."""
        self._ready_at = self._monotonic() + self._delay_s
        self._delay_s = min(2 * self._delay_s, MAX_DELAY_S)

    def succeeded(self) -> None:
        """Reset the delay to `FIRST_DELAY_S`."""
        self._delay_s = FIRST_DELAY_S


class BatchLimit:
    """How many records a batch may have: all that is allowed, but fewer after a batch that took longer than `BATCH_S`.

    Whatever makes records slow, a batch of them that the group took away is smaller when it is polled again, so that
    it is processed in the end. The limit doubles with each batch in time.
    """

    def __init__(self, max_records: int) -> None:
        self._max_records = max_records
        self.records = max_records

    def took(self, records: int, seconds: float) -> None:
        """Note how long a batch of so many records took."""
        if seconds > BATCH_S:
            self.records = max(1, int(records * BATCH_S / seconds))
        else:
            self.records = min(2 * self.records, self._max_records)
