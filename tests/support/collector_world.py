"""The collector's ASGI application without a broker: a publisher in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import httpx2
from prometheus_client import CollectorRegistry

from anabranch.http.access import AccessControl
from anabranch.http.admission import Admission
from anabranch.http.key_file import KeyFile
from anabranch.http.problems import MEDIA_TYPE
from anabranch.http.rate_limit import RateLimit
from anabranch.own_event_types import OwnEventTypes
from producers.collector.app import create_app
from producers.collector.forms.limits import CollectorLimits
from producers.collector.forms.shop_names import ShopNames
from producers.collector.metrics import CollectorMetrics
from producers.collector.request_handler import RequestHandler
from producers.collector.routes import event_routes
from tests.support.in_memory_publisher import InMemoryPublisher

ORIGIN = "https://shop.example"
LIMITS = CollectorLimits(body_bytes=2_000, event_bytes=500, events=20)
NAMES = ShopNames(("product_id", "item_id"), OwnEventTypes({"wishlist": "like"}))


class World:
    """A collector without a broker."""

    def __init__(
        self,
        keys: KeyFile | None = None,
        max_requests: int = 10,
        per_s: float | None = None,
        limits: CollectorLimits = LIMITS,
    ) -> None:
        self.registry = CollectorRegistry()
        self.metrics = CollectorMetrics(self.registry)
        self.metrics.loop.turned(None)
        self.publisher = InMemoryPublisher()
        self.admission = Admission(max_requests, 5 * limits.body_bytes)
        handler = RequestHandler(AccessControl(keys), RateLimit(per_s), self.admission, self.publisher, self.metrics)
        self.app = create_app(event_routes(handler, limits, NAMES, [ORIGIN]), self.metrics.loop, [ORIGIN])

    def run(self, work: Callable[[httpx2.AsyncClient], Coroutine[Any, Any, None]]) -> None:
        async def with_client() -> None:
            transport = httpx2.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx2.AsyncClient(transport=transport, base_url="http://collector") as client:
                await work(client)

        asyncio.run(with_client())

    def request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        answers: list[httpx2.Response] = []

        async def work(client: httpx2.AsyncClient) -> None:
            answers.append(await client.request(method, path, **options))

        self.run(work)
        return answers[0]

    def send(self, body: Any, headers: Mapping[str, str] = {}) -> httpx2.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.request(
            "POST", "/v1/events", content=content, headers={"Content-Type": "application/json"} | dict(headers)
        )

    def value(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


def assert_is_problem(answer: httpx2.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == MEDIA_TYPE
    told: dict[str, Any] = answer.json()
    assert (told["type"], told["status"]) == ("about:blank", status)
    assert told["title"] and told["detail"]
    return told


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)
