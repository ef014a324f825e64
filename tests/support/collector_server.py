"""The collector on a port, with a publisher in memory; and a shop's pages on another port, which is another origin."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from anabranch.http.access import AccessControl
from anabranch.http.admission import Admission
from anabranch.http.key_file import KeyFile
from anabranch.http.rate_limit import RateLimit
from anabranch.http.server import bind, serve
from producers.collector.app import create_app
from producers.collector.forms.limits import CollectorLimits
from producers.collector.forms.shop_names import ShopNames
from producers.collector.metrics import CollectorMetrics
from producers.collector.request_handler import RequestHandler
from producers.collector.routes import event_routes
from tests.support.in_memory_publisher import InMemoryPublisher

LIMITS = CollectorLimits(body_bytes=100_000, event_bytes=32_768, events=100)


class Recorder:
    """Notes every request to send events, as it arrives and as it is answered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.requests: list[tuple[int, list[dict[str, Any]]]] = []
        """Status and events of each request that was answered, in the order of the answers."""
        self.methods: list[str] = []
        """Of all requests."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, status = bytearray(), 0
        self.methods.append(scope["method"])

        async def reading() -> Message:
            message = await receive()
            body.extend(message.get("body", b""))
            return message

        async def answering(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        await self._app(scope, reading, answering)
        if scope["method"] == "POST":
            self.requests.append((status, json.loads(bytes(body) or b"[]")))

    def with_status(self, status: int) -> list[dict[str, Any]]:
        """The events of all requests that were answered so."""
        return [event for answered, events in list(self.requests) if answered == status for event in events]


class CollectorServer:
    """Listens at `url`; the pages of `page_url` may send events to it."""

    def __init__(self, keys: KeyFile | None) -> None:
        self._listeners = [bind("127.0.0.1", 0, "port") for _ in range(2)]
        self.url, self.page_url = (f"http://127.0.0.1:{listener.getsockname()[1]}" for listener in self._listeners)
        self.registry = CollectorRegistry()
        metrics = CollectorMetrics(self.registry)
        self.publisher = InMemoryPublisher()
        origins = [self.page_url, self.other_page_url("shop.test")]
        admission = Admission(100, 10_000_000)
        handler = RequestHandler(AccessControl(keys), RateLimit(None), admission, self.publisher, metrics)
        routes = event_routes(handler, LIMITS, ShopNames(["item_id"]), origins)
        self.recorder = Recorder(create_app(routes, metrics.loop, origins))
        self.html = ""
        """What every page of the shop is."""

    def other_page_url(self, host: str) -> str:
        """The shop's pages under another name of their host."""
        return self.page_url.replace("127.0.0.1", host)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Answer requests meanwhile."""
        stop = threading.Event()
        threads = [
            threading.Thread(target=serve, args=(app, listener, stop, lambda: None, 1))
            for app, listener in zip((self.recorder, self._shop()), self._listeners, strict=True)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def _shop(self) -> ASGIApp:
        async def page(request: Request) -> HTMLResponse:
            return HTMLResponse(self.html)

        return Starlette(routes=[Route("/{path:path}", page)])
