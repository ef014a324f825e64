"""How much work a server takes on: it bounds the requests in flight and the bytes of their bodies."""

from __future__ import annotations

from typing import Self

from anabranch.http.problems import HttpProblem, unavailable

RETRY_AFTER_S = 1


class Admission:
    """Counts what is in flight. For one thread: that of the event loop."""

    def __init__(self, max_requests: int, max_bytes: int) -> None:
        self.max_requests = max_requests
        self.max_bytes = max_bytes
        self.requests = 0
        self.bytes = 0

    def enter(self) -> Ticket:
        """Take one request on. Raises `HttpProblem` (503) if there are too many."""
        if self.requests >= self.max_requests:
            raise _busy(f"{self.max_requests} requests are in flight")
        self.requests += 1
        return Ticket(self)

    def take(self, count: int) -> None:
        """Take so many bytes more on. Raises `HttpProblem` (503) if there are too many."""
        if self.bytes + count > self.max_bytes:
            raise _busy(f"requests of {self.max_bytes} bytes are in flight")
        self.bytes += count

    def leave(self, count: int) -> None:
        """A request with so many bytes is done."""
        self.requests -= 1
        self.bytes -= count


class Ticket:
    """The share that one request has of what is in flight, until it is released: by `release`, or at the end of a
    `with` statement."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._bytes = 0
        self._released = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def take(self, count: int) -> None:
        """Count so many bytes of the body. Raises `HttpProblem` (503) if too many are in flight."""
        self._admission.take(count)
        self._bytes += count

    def raise_to(self, count: int) -> None:
        """Count the request with so many bytes at least. Raises `HttpProblem` (503) if too many are in flight."""
        if count > self._bytes:
            self.take(count - self._bytes)

    def release(self) -> None:
        """Give the share back. Safe to call again."""
        if not self._released:
            self._released = True
            self._admission.leave(self._bytes)


def _busy(what: str) -> HttpProblem:
    return unavailable(f"{what}, which is the limit: send the same request again later", RETRY_AFTER_S)
