"""An ASGI application on a port of this machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp

from anabranch.http.server import address_of, bind, serve


@contextmanager
def served(app: ASGIApp) -> Iterator[str]:
    """The application's address, at which requests are answered meanwhile."""
    listener, stop = bind("127.0.0.1", 0, "port"), threading.Event()
    thread = threading.Thread(target=serve, args=(app, listener, stop, lambda: None, 1))
    thread.start()
    try:
        yield address_of(listener)
    finally:
        stop.set()
        thread.join()
