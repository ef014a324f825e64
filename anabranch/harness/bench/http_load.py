"""A generator of HTTP load in a process of its own, which leaves the processors to what is measured.

In the process of the benchmark it would wait for the interpreter lock while events are published, and count that as
latency of the server.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from tempfile import TemporaryFile
from typing import cast

import msgspec

from anabranch.errors import AnabranchError

END_OF_HEAD = b"\r\n\r\n"
CONTENT_LENGTH = b"content-length:"
WARMUP_S = 1.0
"""What is answered before is not counted."""


class LoadFailed(AnabranchError):
    """A request was answered with an error, or not at all."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Requests by GET for the paths in turn, for so many seconds after the first one."""

    host: str
    port: int
    paths: Sequence[str]
    seconds: float
    connections: int
    """At full load, each sends its next request as soon as it has an answer."""
    per_second: float | None = None
    """A steady load: requests are due at this rate, whether those before them are answered or not; None: full load."""


class LoadFigures(msgspec.Struct, frozen=True):
    """What a load measured."""

    per_second: float
    """Requests answered, without those of the first second."""
    answered: int
    """All that were answered."""
    latencies_ms: list[float]
    """From when a request was due to its answer, so that the time that requests queue counts."""


def measure_load(load: Load, meanwhile: Callable[[], None]) -> LoadFigures:
    """Generate the load in a process of its own; `meanwhile` is called again and again until it ends.

    Raises `LoadFailed`.
    """
    # Files, because a pipe that nobody reads before the end would be full.
    with TemporaryFile() as plan, TemporaryFile() as output, TemporaryFile() as errors:
        plan.write(msgspec.json.encode(load))
        plan.seek(0)
        with subprocess.Popen([sys.executable, "-m", __name__], stdin=plan, stdout=output, stderr=errors) as process:
            while process.poll() is None:
                meanwhile()
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            raise LoadFailed(f"the load on the server failed: {errors.read().decode(errors='replace').strip()}")
        return msgspec.json.decode(output.read(), type=LoadFigures)


class Connection(asyncio.Protocol):
    """One connection that is kept; one request at a time."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._received = bytearray()
        self._answer: asyncio.Future[bytes] | None = None

    @classmethod
    async def open(cls, host: str, port: int) -> Connection:
        """Connect."""
        _, connection = await asyncio.get_running_loop().create_connection(lambda: cls(host), host, port)
        return connection

    async def get(self, path: str) -> bytes:
        """The body. Raises `LoadFailed` for any other answer than 200."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())
        head, body = _parts(await self._answer)
        if b" 200 " not in head.partition(b"\r\n")[0]:
            raise LoadFailed(f"GET {path}: {head.decode()} {body.decode(errors='replace')}")
        return body

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        self._received += data
        if self._answer is not None and _is_whole(self._received):
            answer, self._received = bytes(self._received), bytearray()
            self._answer.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(LoadFailed(f"the server closed the connection: {exc}"))


def _parts(answer: bytes | bytearray) -> tuple[bytes, bytes]:
    """Head and body of what has been received of an answer."""
    head, _, body = bytes(answer).partition(END_OF_HEAD)
    return head, body


def _is_whole(received: bytearray) -> bool:
    if END_OF_HEAD not in received:
        return False
    head, body = _parts(received)
    lines = head.lower().split(b"\r\n")
    length = next(int(line[len(CONTENT_LENGTH) :]) for line in lines if line.startswith(CONTENT_LENGTH))
    return len(body) >= length


async def generate(load: Load) -> LoadFigures:
    """Generate the load. Raises `LoadFailed`, and `OSError` if the server does not listen."""
    connections = [await Connection.open(load.host, load.port) for _ in range(load.connections)]
    try:
        return await (_full(load, connections) if load.per_second is None else _steady(load, connections))
    finally:
        for connection in connections:
            connection.close()


async def _full(load: Load, connections: Sequence[Connection]) -> LoadFigures:
    counted_from, latencies, sent = time.perf_counter() + WARMUP_S, list[float](), 0
    end = counted_from + load.seconds

    async def client(connection: Connection) -> None:
        nonlocal sent
        while (sent_at := time.perf_counter()) < end:
            sent += 1
            await connection.get(load.paths[sent % len(load.paths)])
            if counted_from <= time.perf_counter() < end:
                latencies.append(1000 * (time.perf_counter() - sent_at))

    await asyncio.gather(*(client(connection) for connection in connections))
    return LoadFigures(len(latencies) / load.seconds, sent, latencies)


async def _steady(load: Load, connections: Sequence[Connection]) -> LoadFigures:
    assert load.per_second is not None
    idle: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()
    for connection in connections:
        idle.put_nowait(connection)
    started, per_second = time.perf_counter(), load.per_second

    async def request(number: int) -> float:
        due = started + number / per_second
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        connection = await idle.get()
        await connection.get(load.paths[number % len(load.paths)])
        idle.put_nowait(connection)
        return 1000 * (time.perf_counter() - due)

    skipped, counted = int(WARMUP_S * per_second), int(load.seconds * per_second)
    latencies = await asyncio.gather(*(request(number) for number in range(skipped + counted)))
    return LoadFigures(per_second, len(latencies), latencies[skipped:])


def main() -> None:
    """Read a `Load` from standard input, and write its `LoadFigures` to standard output."""
    try:
        figures = asyncio.run(generate(msgspec.json.decode(sys.stdin.buffer.read(), type=Load)))
    except (LoadFailed, OSError) as error:
        sys.exit(str(error))
    sys.stdout.buffer.write(msgspec.json.encode(figures))


if __name__ == "__main__":
    main()
