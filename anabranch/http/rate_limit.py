"""How many events a second a client may send: a token bucket for each API key."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from http import HTTPStatus

from anabranch.http.problems import HttpProblem


class RateLimit:
    """Token buckets that hold the tokens of one second. For one thread: that of the event loop.

    A request may take more tokens than there are, so that a request of any size passes; the key then waits until the
    bucket has filled up again. Over time a key so has `per_s` events a second.
    """

    def __init__(self, per_s: float | None, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`per_s`: events a second; None: no limit."""
        self._per_s = per_s
        self._monotonic = monotonic
        self._full_at_s: dict[str | None, float] = {}
        """By name of the key, when its bucket is full again. It has as many entries as there were keys."""

    def charge(self, key: str | None, events: int) -> None:
        """Take so many tokens from the bucket of a key. Raises `HttpProblem` (429) while the bucket is empty."""
        if self._per_s is None:
            return
        now_s = self._monotonic()
        full_at_s = max(self._full_at_s.get(key, now_s), now_s)
        wait_s = full_at_s - now_s - 1
        if wait_s >= 0:
            raise _too_many(self._per_s, wait_s)
        self._full_at_s[key] = full_at_s + events / self._per_s


def _too_many(per_s: float, wait_s: float) -> HttpProblem:
    retry_after_s = max(1, math.ceil(wait_s))
    return HttpProblem(
        HTTPStatus.TOO_MANY_REQUESTS,
        f"the API key has sent more than {per_s:g} events a second: send the same request again in {retry_after_s} s",
        {"Retry-After": str(retry_after_s)},
    )
