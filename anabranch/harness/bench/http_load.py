"""A generator of HTTP load, small enough to leave the processors to what is measured."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from anabranch.errors import AnabranchError

END_OF_HEAD = b"\r\n\r\n"
CONTENT_LENGTH = b"content-length:"


class LoadFailed(AnabranchError):
    """A request was answered with an error."""


class Connection:
    """One connection that is kept; one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self._reader, self._writer, self._host = reader, writer, host

    @classmethod
    async def open(cls, host: str, port: int) -> Connection:
        """Connect."""
        return cls(*await asyncio.open_connection(host, port), host)

    async def get(self, path: str) -> bytes:
        """The body. Raises `LoadFailed` for any other answer than 200."""
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())
        head = await self._reader.readuntil(END_OF_HEAD)
        lines = head.split(b"\r\n")
        length = next(int(line[len(CONTENT_LENGTH) :]) for line in lines if line.lower().startswith(CONTENT_LENGTH))
        body = await self._reader.readexactly(length)
        if b" 200 " not in lines[0]:
            raise LoadFailed(f"GET {path}: {lines[0].decode()} {body.decode(errors='replace')}")
        return body

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()


@dataclass(frozen=True)
class Address:
    """Where a server listens."""

    host: str
    port: int


async def full_load(address: Address, path: Callable[[int], str], connections: int, seconds: float) -> float:
    """Requests per second that are answered: each connection sends its next request as soon as it has an answer.

    `path(n)` is that of the n-th request. The first second is not counted.
    """
    counted_from, answered, sent = time.perf_counter() + 1.0, 0, 0
    end = counted_from + seconds

    async def client() -> None:
        nonlocal answered, sent
        connection = await Connection.open(address.host, address.port)
        while time.perf_counter() < end:
            sent += 1
            await connection.get(path(sent))
            answered += counted_from <= time.perf_counter() < end
        connection.close()

    await asyncio.gather(*(client() for _ in range(connections)))
    return answered / seconds


async def steady_load(
    address: Address, path: Callable[[int], str], per_second: float, seconds: float
) -> Sequence[float]:
    """Milliseconds from the time at which each request was due to its answer, whatever those before it took, so that
    the time that requests queue counts."""
    idle: list[Connection] = []
    started = time.perf_counter()

    async def request(number: int) -> float:
        due = started + number / per_second
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        connection = idle.pop() if idle else await Connection.open(address.host, address.port)
        await connection.get(path(number))
        idle.append(connection)
        return 1000 * (time.perf_counter() - due)

    latencies = await asyncio.gather(*(request(number) for number in range(int(per_second * seconds))))
    for connection in idle:
        connection.close()
    return latencies
