"""When a request that failed is sent again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

MAX_DOUBLINGS = 30


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential backoff with full jitter: clients that failed together do not come back together.

    Source: Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    attempts: int = 5
    """Requests in all; 1: nothing is sent again."""
    first_wait_s: float = 0.2
    """The longest wait before the second attempt; it doubles with each further one."""
    max_wait_s: float = 5.0
    deadline_s: float = 30.0
    """No attempt starts later than this after the first."""
    uniform: Callable[[float, float], float] = random.uniform
    sleep: Callable[[float], None] = time.sleep

    def wait_s(self, failures: int, elapsed_s: float, retry_after_s: float) -> float | None:
        """How long to wait before the next attempt, after so many `failures`; None: there is no next one.

        `elapsed_s`: since the first attempt began. `retry_after_s`: how long the server asked to wait, 0 if it did not.
        """
        if failures >= self.attempts:
            return None
        longest_s = min(self.max_wait_s, self.first_wait_s * 2 ** min(failures - 1, MAX_DOUBLINGS))
        wait_s = retry_after_s + self.uniform(0.0, longest_s)
        return None if elapsed_s + wait_s > self.deadline_s else wait_s


RETRIES = RetryPolicy()
"""Of a client that is given no other: five attempts within half a minute."""
