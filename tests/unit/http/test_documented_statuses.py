"""Every status of every operation of the OpenAPI documents is reached, and answered as its document says.

A new operation needs a valid request in `VALID_REQUESTS`; a status that no way of `WAYS` reaches needs one of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, get_args

import httpx2
import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig

from anabranch.errors import BrokerUnavailable
from anabranch.http import api_keys, key_file
from anabranch.http.api_keys import Scope
from anabranch.http.key_file import KeyFile
from anabranch.http.request_body import read_body
from consumers.api.routes import endpoints, rule_endpoints
from consumers.api.routes import operations as serve
from producers.collector import operations as collect
from producers.collector import request_handler
from tests.support.collector_world import ORIGIN, World
from tests.support.documented_routes import document_of
from tests.support.ranker_world import CATALOGUE
from tests.support.replica_world import ReplicaProcess
from tests.support.serving_api import Api, StreamClient

SERVERS = {description.API.name: description.API for description in (collect, serve)}


@dataclass(frozen=True)
class Request:
    """A request that is answered with success."""

    path: str
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of httpx2."""
    key_parameter: str | None = None
    """Of the query, where the key is there; None: it is in the header."""

    def having(self, **options: Any) -> Request:
        """With other options of httpx2; headers and parameters are added to those that there are."""
        for name in ("headers", "params"):
            options[name] = {**self.options.get(name, {}), **options.get(name, {})}
        kept = {} if "content" in options else {"json": self.options["json"]} if "json" in self.options else {}
        return Request(self.path, {**kept, **options}, self.key_parameter)

    def with_key(self, key: str) -> Request:
        """With an API key."""
        if self.key_parameter is not None:
            return self.having(params={self.key_parameter: key})
        return self.having(headers={"Authorization": f"Bearer {key}"})


def json_request(path: str, body: object) -> Request:
    return Request(path, {"json": body})


EVENT = collect.EVENT
CALL = {"userId": "u1", "anonymousId": "a7", "previousId": "a7", "event": "Product Viewed"}
CALL |= {"properties": {"product_id": "i42"}}  # type: ignore[dict-item]
BEACON_HEADERS = {"Origin": ORIGIN, "Content-Type": "text/plain"}
RULE = serve.RULE_EXAMPLE
RULE_PATH = f"/v1/rules/{RULE['rule_id']}"
VALID_REQUESTS: dict[str, Request] = {
    "send_events": json_request("/v1/events", EVENT),
    "send_beacon": Request(
        "/v1/beacon",
        {"content": httpx2.Request("POST", "http://x", json=EVENT).content, "headers": BEACON_HEADERS},
        "key",
    ),
    "segment_batch": json_request("/v1/batch", {"batch": [{"type": "track", **CALL}]}),
    **{f"segment_{call}": json_request(f"/v1/{call}", CALL) for call in collect.CALLS},
    "ga4_collect": json_request("/mp/collect", collect.GA4.example),
    "ga4_debug": json_request("/debug/mp/collect", collect.GA4_DEBUG.example),
    "tracker_script": Request("/tracker.js"),
    "recommendations": Request("/v1/users/u1/recommendations"),
    "recommendations_after_events": json_request("/v1/recommendations", {"events": [{"item_id": CATALOGUE[4]}]}),
    "rank": json_request("/v1/rank", {"user_id": "u1", "items": CATALOGUE[:3]}),
    "similar": Request(f"/v1/items/{CATALOGUE[0]}/similar"),
    "bought_together": Request(f"/v1/items/{CATALOGUE[0]}/bought-together"),
    "trending": Request("/v1/trending"),
    "user": Request("/v1/users/u1"),
    "stream": Request("/v1/stream/users/u1"),
    "releases": Request("/v1/releases"),
    "rules": Request("/v1/rules"),
    "preview_rules": json_request("/v1/rules/preview", {"user_id": "u1", "rules": [RULE]}),
    "rule": Request(RULE_PATH),
    "put_rule": json_request(RULE_PATH, RULE),
    "delete_rule": Request(RULE_PATH),
    "healthz": Request("/healthz"),
    "readyz": Request("/readyz"),
    "openapi": Request("/openapi.json"),
}
"""By the name of the operation."""


@dataclass
class Case:
    """An operation, and what reaches its statuses."""

    method: str
    request: Request
    scope: Scope | None
    make: Callable[..., World | Api]
    """An application of its own, with options such as `keys`."""
    folder: Path
    monkeypatch: pytest.MonkeyPatch

    def send(self, server: World | Api, request: Request) -> httpx2.Response:
        return server.request(self.method, request.path, **request.options)

    def key_without_scope(self) -> tuple[str, KeyFile]:
        """A key of another scope, and the file that it is in."""
        other: Scope = next(scope for scope in get_args(Scope) if scope != self.scope)
        text, key = api_keys.create("other", [other])
        key_file.add(self.folder / "keys.json", key)
        return text, KeyFile(self.folder / "keys.json")


def valid(case: Case) -> httpx2.Response:
    return case.send(case.make(), case.request)


def unreadable(case: Case) -> httpx2.Response:
    if case.method in ("GET", "DELETE"):
        return case.send(case.make(), case.request.having(params={"no_such_parameter": "1"}))
    return case.send(case.make(), case.request.having(content=b"nope", headers={"Content-Type": content_type(case)}))


def without_key(case: Case) -> httpx2.Response:
    return case.send(case.make(keys=case.key_without_scope()[1]), case.request)


def without_scope(case: Case) -> httpx2.Response:
    key, keys = case.key_without_scope()
    return case.send(case.make(keys=keys), case.request.with_key(key))


def unknown_item(case: Case) -> httpx2.Response:
    return case.send(case.make(), Request(case.request.path.replace(CATALOGUE[0], "no-such-item")))


def slow(case: Case) -> httpx2.Response:
    async def body() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(60)

    for module in (request_handler, endpoints, rule_endpoints):
        case.monkeypatch.setattr(module, "read_body", partial(read_body, timeout_s=0.01))
    answer = case.send(case.make(), case.request.having(content=body(), headers={"Content-Type": content_type(case)}))
    answer.request = httpx2.Request(case.method, answer.url)  # Schemathesis would read the body
    return answer


def too_large(case: Case) -> httpx2.Response:
    body = b" " * (endpoints.MAX_BODY_BYTES + 1)
    return case.send(case.make(), case.request.having(content=body, headers={"Content-Type": content_type(case)}))


def of_another_media_type(case: Case) -> httpx2.Response:
    return case.send(case.make(), case.request.having(headers={"Content-Type": "application/xml"}, content=b"<event/>"))


def more_than_the_rate(case: Case) -> httpx2.Response:
    server = case.make(per_s=0.001)
    assert case.send(server, case.request).is_success
    return case.send(server, case.request)


def beyond_the_limit(case: Case) -> httpx2.Response:
    server = case.make(max_requests=1)
    server.admission.enter()
    return case.send(server, case.request)


def content_type(case: Case) -> str:
    return str(case.request.options.get("headers", {}).get("Content-Type", "application/json"))


WAYS: dict[int, Callable[[Case], httpx2.Response]] = {
    200: valid,
    202: valid,
    204: valid,
    400: unreadable,
    401: without_key,
    403: without_scope,
    404: unknown_item,
    408: slow,
    413: too_large,
    415: of_another_media_type,
    429: more_than_the_rate,
    503: beyond_the_limit,
}
"""By status."""


def not_modified(case: Case) -> httpx2.Response:
    server = case.make()
    tag = case.send(server, case.request).headers["ETag"]
    return case.send(server, case.request.having(headers={"If-None-Match": tag}))


def stuck(case: Case) -> httpx2.Response:
    server = case.make()
    case.monkeypatch.setattr(loop_of(server), "limit_s", -1.0)
    return case.send(server, case.request)


def not_ready(case: Case) -> httpx2.Response:
    server = case.make()
    loop_of(server).turned("user states are restored")
    try:
        return case.send(server, case.request)
    finally:
        loop_of(server).turned(None)


def of_a_rule_that_is_there(case: Case) -> httpx2.Response:
    server = case.make()
    assert isinstance(server, Api)
    put = VALID_REQUESTS["put_rule"]
    assert server.request("PUT", put.path, **put.options).status_code == 200
    server.replica.settle()
    try:
        return case.send(server, case.request)
    finally:
        server.request("DELETE", put.path)
        server.replica.settle()


def before_the_first_release(case: Case) -> httpx2.Response:
    server = case.make()
    assert isinstance(server, Api)
    case.monkeypatch.setattr(server.replica.replica.model, "live", None)
    return case.send(server, case.request)


def without_a_broker(case: Case) -> httpx2.Response:
    server = case.make()
    assert isinstance(server, Api)
    server.rules.failure = BrokerUnavailable("no broker answers")
    return case.send(server, case.request)


def first_event_of_a_stream(case: Case) -> httpx2.Response:
    server = case.make()
    assert isinstance(server, Api)

    async def read() -> httpx2.Response:
        client = StreamClient(server, case.request.path)
        while not client.slates:
            await asyncio.sleep(0.001)
        await client.leave()
        assert client.status is not None
        content = "".join(client.chunks).encode()
        request = httpx2.Request(case.method, f"http://api{case.request.path}")
        answer = httpx2.Response(client.status, headers=client.headers, content=content, request=request)
        answer.elapsed = timedelta(0)
        return answer

    return asyncio.run(read())


def beyond_the_streams(case: Case) -> httpx2.Response:
    return case.send(case.make(max_streams=0), case.request)


def loop_of(server: World | Api) -> Any:
    return server.metrics.loop if isinstance(server, World) else server.replica.metrics.loop


OWN_WAYS: dict[tuple[str, int], Callable[[Case], httpx2.Response]] = {
    ("tracker_script", 304): not_modified,
    ("stream", 200): first_event_of_a_stream,
    ("stream", 503): beyond_the_streams,
    ("rule", 200): of_a_rule_that_is_there,
    ("rule", 404): valid,
    ("rule", 503): before_the_first_release,
    ("rules", 503): before_the_first_release,
    ("delete_rule", 204): of_a_rule_that_is_there,
    ("delete_rule", 404): valid,
    ("delete_rule", 503): without_a_broker,
    ("healthz", 503): stuck,
    ("readyz", 503): not_ready,
}
"""By operation and status, where that of the status does not fit."""


def documented_statuses() -> list[Any]:
    return [
        pytest.param(server, (path, method), int(status), id=f"{server} {described['operationId']} {status}")
        for server, api in SERVERS.items()
        for path, methods in document_of(api)["paths"].items()
        for method, described in methods.items()
        for status in described["responses"]
    ]


@pytest.mark.parametrize(("server", "operation", "status"), documented_statuses())
def test_a_documented_status_is_answered_as_its_document_says(
    server: str,
    operation: tuple[str, str],
    status: int,
    replica: ReplicaProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    document, (path, method) = document_of(SERVERS[server]), operation
    described = document["paths"][path][method]
    name = described["operationId"]
    assert name in VALID_REQUESTS, f"{name} has no valid request in VALID_REQUESTS: add one"
    way = OWN_WAYS.get((name, status), WAYS.get(status))
    assert way is not None, f"nothing reaches the status {status} of {name}: add it to WAYS or OWN_WAYS"
    scope = next(iter(described["security"][0].values()))[0] if "security" in described else None
    make: Callable[..., World | Api] = World if server == "collect" else partial(Api, replica)
    answer = way(Case(method.upper(), VALID_REQUESTS[name], scope, make, tmp_path, monkeypatch))
    assert answer.status_code == status, answer.text
    schema = schemathesis.openapi.from_dict(document, config=SchemathesisConfig())
    schema[path][method].validate_response(answer)


def test_every_valid_request_is_of_a_documented_operation() -> None:
    documented = {
        described["operationId"]
        for api in SERVERS.values()
        for methods in document_of(api)["paths"].values()
        for described in methods.values()
    }
    assert set(VALID_REQUESTS) == documented
