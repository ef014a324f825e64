"""Requests that take long, one after the other, so that all others are answered meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anabranch.http.problems import unavailable

RETRY_AFTER_S = 1


class Turns:
    """For the event loop's thread."""

    def __init__(self, max_requests: int, what: str) -> None:
        """At most so many requests have or await their turn; `what` they are, for a client who is one too many."""
        self._max_requests = max_requests
        self._what = what
        self._requests = 0
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        """Wait for one's turn, and have it. Raises `HttpProblem` (503) if too many wait."""
        if self._requests >= self._max_requests:
            raise unavailable(
                f"{self._requests} {self._what} are worked on or wait, which is the limit: send the same request again "
                "later",
                RETRY_AFTER_S,
            )
        self._requests += 1
        try:
            async with self._turn:
                yield
        finally:
            self._requests -= 1
