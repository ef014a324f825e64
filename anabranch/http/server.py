"""An ASGI application, served by uvicorn until it is to stop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

import uvicorn
from starlette.types import ASGIApp

from anabranch.errors import UsageError
from anabranch.http.bounded_protocol import BoundedProtocol

MAX_CONNECTIONS = 1_000
"""Further connections are answered with 503. A connection holds at most 64 KiB that the application has not read."""
KEEP_ALIVE_S = 30
TICKS_PER_S = 10
"""So often uvicorn calls `Server.on_tick`."""


def bind(host: str, port: int, setting: str) -> socket.socket:
    """A socket that listens at host:port; 0 is any free port. Raises `UsageError`, which names the setting.

    Its protocol is given, which `socket.create_server` leaves out: asyncio switches Nagle's algorithm off only where it
    reads TCP there, and with it, each answer takes 40 ms longer.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(MAX_CONNECTIONS)
        except OSError:
            listener.close()
            raise
        return listener
    except OSError as error:
        raise UsageError(f"{host}:{port} cannot be listened on: {error}; choose another {setting}") from error


def address_of(listener: socket.socket) -> str:
    """The address at which a socket listens, as the beginning of a URL."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def serve(
    app: ASGIApp, listener: socket.socket, stop: threading.Event, every_second: Callable[[], None], grace_s: int
) -> None:
    """Serve until `stop` is set, then take no more requests and finish those in flight, for `grace_s` seconds at most.

    `every_second` runs on the event loop. Nothing is logged of requests; of defects, the traceback.
    """
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=grace_s,
    )
    asyncio.run(_StoppableServer(config, stop, every_second).serve([listener]))


class _StoppableServer(uvicorn.Server):
    """Leaves signals to the process, and ends once `stop` is set."""

    def __init__(self, config: uvicorn.Config, stop: threading.Event, every_second: Callable[[], None]) -> None:
        super().__init__(config)
        self._stop = stop
        self._every_second = every_second

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return contextlib.nullcontext()

    async def on_tick(self, counter: int) -> bool:
        if counter % TICKS_PER_S == 0:
            self._every_second()
        return await super().on_tick(counter) or self._stop.is_set()
