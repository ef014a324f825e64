"""Random and mutated requests at the whole application: none is a defect, and nothing invalid is ever published.

`FUZZ_REQUESTS=100000` makes more of them than a run of all tests needs, and `FUZZ_SEED` others.
"""

from __future__ import annotations

import copy
import gzip
import json
import logging
import os
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx2
import msgspec
import pytest

from anabranch import messages
from anabranch.http.problems import MEDIA_TYPE
from anabranch.messages import Event
from producers.collector.forms.limits import CollectorLimits
from producers.identity_record import IdentifiedVisitor
from tests.support.collector_world import World

REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "2000"))
SEED = int(os.environ.get("FUZZ_SEED", "0"))

LIMITS = CollectorLimits(body_bytes=200_000, event_bytes=32_768, events=100)
PRODUCTS = [{"product_id": "p1", "price": 1.5, "quantity": 2}, {"item_id": 17, "price": "2.50"}]
COMMON = {"userId": "u1", "anonymousId": "a1", "messageId": "m1", "timestamp": "2026-01-01T00:00:00.000Z"}
CALLS: Sequence[Mapping[str, Any]] = [
    {"type": "track", "event": "Product Viewed", "properties": PRODUCTS[0]},
    {"type": "track", "event": "Order Completed", "properties": {"order_id": "o1", "products": PRODUCTS}},
    {"type": "track", "event": "Product List Viewed", "properties": {"products": PRODUCTS}},
    {"type": "track", "event": "Products Searched", "properties": {"query": "soup"}},
    {"type": "track", "event": "Signed Up"},
    {"type": "page", "properties": {"product_id": "p1"}, "sentAt": "2026-01-01T00:00:01Z"},
    {"type": "identify", "traits": {"email": "x@example.com"}},
    {"type": "alias", "previousId": "a2"},
    {"type": "screen"},
]
EVENTS: Sequence[Mapping[str, Any]] = [
    {"type": "view", "item_id": "i1", "session_id": "s1", "context": {"page": "/"}},
    {"type": "search", "query": "soup"},
    {"type": "impression", "shown": ["i1", "i2"]},
    {"type": "rating", "item_id": "i1", "rating": 0.5, "price": 1, "quantity": 2, "order_id": "o", "ranking_id": "r"},
]
GA4_EVENTS: Sequence[Mapping[str, Any]] = [
    {"name": "view_item", "params": {"items": PRODUCTS, "session_id": 17}},
    {"name": "purchase", "params": {"items": PRODUCTS, "transaction_id": "t1"}},
    {"name": "view_item_list", "params": {"items": PRODUCTS}},
    {"name": "search", "params": {"search_term": "soup"}, "timestamp_micros": 1_700_000_000_000_000},
    {"name": "login"},
]
ODD_VALUES: Sequence[Any] = [
    *(None, True, 0, -1, 2**63, 10**30, -0.0, 1.5, 1e308, "", " ", "a\x00", "a\x1fb", "\ud800", "\U0001f600", "nan"),
    *("1e999", "x" * 600, "x" * 40_000, [], {}, [[]], [None], {"a": {}}, "2026-01-01", "0001-01-01T00:00:00+23:59"),
]
ODD_HEADERS: Sequence[Mapping[str, str]] = [
    *({"Content-Type": "text/plain"}, {"Content-Type": ""}, {"Content-Type": "application/x-ndjson"}),
    *({"Content-Encoding": "br"}, {"Content-Encoding": "gzip"}, {"Content-Length": "99999999"}),
    *({"Authorization": "Basic !!"}, {"Authorization": "Bearer"}, {"Origin": "https://shop.example"}),
]
ODD_PATHS = ("/", "/v1/group", "/v1/events/", "/readyz", "/mp/collect?api_secret=%ff", "/debug/mp/collect?a=b&a")


def own_body(rng: random.Random) -> Any:
    events = [
        {"event_id": f"e{number}", "user_id": "u1", "ts": 1_700_000_000_000, **rng.choice(EVENTS)}
        for number in range(3)
    ]
    return rng.choice([events[0], events])


def ga4_body(rng: random.Random) -> Any:
    events = rng.choices(GA4_EVENTS, k=rng.randint(1, 4))
    return {"client_id": "c1", "user_id": "u1", "timestamp_micros": "1700000000000000", "events": events}


def call_body(rng: random.Random) -> Any:
    return {**COMMON, **rng.choice(CALLS)}


BODIES: Mapping[str, Callable[[random.Random], Any]] = {
    "/v1/events": own_body,
    "/v1/batch": lambda rng: {"batch": [call_body(rng) for _ in range(3)], "sentAt": "2026-01-01T00:00:02Z"},
    **{f"/v1/{call}": call_body for call in ("track", "page", "identify", "alias")},
    "/mp/collect": ga4_body,
    "/debug/mp/collect": ga4_body,
}


def mutated(value: Any, rng: random.Random) -> Any:
    """With one part in it replaced, removed, repeated or put elsewhere."""
    value = copy.deepcopy(value)
    positions = list(_positions(value))
    if not positions:
        return rng.choice(ODD_VALUES)
    container, key = rng.choice(positions)
    match rng.randrange(5):
        case 0:
            del container[key]
        case 1:
            container[key] = copy.deepcopy(rng.choice(positions)[0])
        case 2 if isinstance(container, list):
            container *= rng.choice([2, 30])
        case _:
            container[key] = rng.choice(ODD_VALUES)
    return value


def _positions(value: Any) -> Any:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield value, key
        yield from _positions(child)


def corrupted(body: bytes, rng: random.Random) -> bytes:
    """With some bytes replaced, removed, repeated or nested."""
    start = rng.randint(0, len(body))
    end = min(len(body), start + rng.randint(0, 20))
    odd = rng.choice([b"", b"\xff", rng.randbytes(4), body[:40], b'"a":1,' * 2, b"[" * 200, b'{"a":' * 150, b"9" * 400])
    return body[:start] + odd + body[end:]


class Fuzzer:
    """Makes requests."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    def request(self) -> tuple[str, str, bytes, dict[str, str]]:
        """Method, path, body and headers."""
        rng = self._rng
        path = rng.choice(list(BODIES))
        content = BODIES[path](rng)
        for _ in range(rng.choice([0, 1, 1, 2, 4])):
            content = mutated(content, rng)
        body = json.dumps(content).encode()
        for _ in range(rng.choice([0, 0, 0, 1, 2])):
            body = corrupted(body, rng)
        headers = {"Content-Type": "application/json"}
        if rng.random() < 0.1:
            body, headers["Content-Encoding"] = self._compressed(body), "gzip"
        if rng.random() < 0.1:
            headers |= rng.choice(ODD_HEADERS)
        if rng.random() < 0.05:
            path = rng.choice(ODD_PATHS)
        return rng.choice(["POST"] * 20 + ["GET", "PUT", "OPTIONS"]), path, body, headers

    def _compressed(self, body: bytes) -> bytes:
        bomb = self._rng.random() < 0.1
        body = gzip.compress(body + b" " * 10_000_000 * bomb, 1)
        return corrupted(body, self._rng) if self._rng.random() < 0.3 else body

    def breaks_broker(self) -> bool:
        """Whether the broker is away."""
        return self._rng.random() < 0.05


def assert_is_published_as_it_is(event: Event, visitors: Sequence[IdentifiedVisitor]) -> None:
    assert messages.events.decode(messages.encode(event)) == event
    for visitor in visitors:
        assert msgspec.json.decode(msgspec.json.encode(visitor), type=IdentifiedVisitor) == visitor


def test_no_request_is_a_defect_and_nothing_invalid_is_published(caplog: pytest.LogCaptureFixture) -> None:
    world, fuzzer = World(limits=LIMITS), Fuzzer(SEED)
    statuses: dict[int, int] = {}

    async def work(client: httpx2.AsyncClient) -> None:
        for number in range(REQUESTS):
            method, path, body, headers = fuzzer.request()
            world.publisher.broken = fuzzer.breaks_broker()
            answer = await client.request(method, path, content=body, headers=headers)
            described = f"request {number} of seed {SEED}: {method} {path} {headers} {body[:2_000]!r}"
            assert answer.status_code < 500 or answer.status_code == 503, described
            if method == "POST" and answer.status_code >= 400:
                assert answer.headers["Content-Type"] == MEDIA_TYPE, described
            if answer.status_code == 503 and path in BODIES:
                assert world.publisher.broken, described
            for event in world.publisher.events:
                assert_is_published_as_it_is(event, world.publisher.identities)
            world.publisher.events.clear()
            world.publisher.identities.clear()
            statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1

    with caplog.at_level(logging.WARNING):
        world.run(work)
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]
    assert (world.admission.requests, world.admission.bytes) == (0, 0)
    assert {200, 202, 204, 400, 404, 405, 413, 415, 503} <= statuses.keys(), "requests of every kind were made"
    assert statuses[200] + statuses[202] + statuses[204] > REQUESTS / 4
