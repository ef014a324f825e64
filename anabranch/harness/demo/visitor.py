"""One visitor of a shop that calls Anabranch over HTTP: each click, and how soon the slate follows it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection

import msgspec
from msgspec import Struct

from anabranch.harness.environment.processes import ProcessFailed
from anabranch.messages import Event, Item

HOST = "127.0.0.1"
VISITOR = "the visitor of the demo"
PATIENCE_S = 30.0
BETWEEN_CLICKS_S = 0.05


class _Answer(Struct):
    """Of the serving API."""

    as_of: int | None
    items: list[dict[str, object]]


@dataclass(frozen=True)
class Services:
    """Ports of 127.0.0.1 on which the services of one demo listen."""

    collect: int
    serve: int


def visit(services: Services, items: Sequence[Item], clicks: int) -> list[float]:
    """Milliseconds from each click, as the visitor sends it, to the answer of the first request whose slate follows it.

    Raises `ProcessFailed` if a service answers with an error, or if the slate does not follow.
    """
    with (
        closing(HTTPConnection(HOST, services.collect)) as collect,
        closing(HTTPConnection(HOST, services.serve)) as api,
    ):
        return list(_clicks(collect, api, items, clicks))


def _clicks(collect: HTTPConnection, api: HTTPConnection, items: Sequence[Item], clicks: int) -> Iterator[float]:
    for number in range(clicks):
        time.sleep(BETWEEN_CLICKS_S)
        clicked_at_s, now_ms = time.monotonic(), time.time_ns() // 1_000_000
        item_id = items[number % len(items)].item_id
        click = Event(event_id=f"{VISITOR} {number}", user_id=VISITOR, type="click", ts=now_ms, item_id=item_id)
        _request(collect, "POST", "/v1/events", msgspec.json.encode(click))
        while _slate(api).as_of != now_ms:
            if time.monotonic() - clicked_at_s > PATIENCE_S:
                raise ProcessFailed(f"the slate of `anabranch serve` does not follow a click within {PATIENCE_S:.0f} s")
        yield 1000 * (time.monotonic() - clicked_at_s)


def _slate(api: HTTPConnection) -> _Answer:
    path = f"/v1/users/{VISITOR.replace(' ', '%20')}/recommendations"
    return msgspec.json.decode(_request(api, "GET", path), type=_Answer)


def _request(connection: HTTPConnection, method: str, path: str, body: bytes | None = None) -> bytes:
    connection.request(method, path, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    content = answer.read()
    if answer.status >= 300:
        raise ProcessFailed(f"{method} {path}: {answer.status} {content.decode(errors='replace')}")
    return content
