"""`POST /v1/beacon`: what a page sends without a preflight request, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from anabranch.http import api_keys, key_file
from anabranch.http.api_keys import Scope
from anabranch.http.key_file import KeyFile
from tests.support.collector_server import CollectorServer

EVENT = {"event_id": "e0", "user_id": "u", "type": "view", "ts": 1, "item_id": "i"}


class Collector:
    """A collector on a port, and what a page sends to it."""

    def __init__(self, folder: Path, has_keys: bool = True) -> None:
        self._path = folder / "keys.json"
        self.key = self._new_key("events:write")
        self.key_with_more = self._new_key("events:write", "admin")
        self.key_without = self._new_key("rankings:read")
        self.server = CollectorServer(KeyFile(self._path) if has_keys else None)

    def _new_key(self, *scopes: Scope) -> str:
        text, key = api_keys.create(f"key-{'-'.join(scopes).replace(':', '.')}", scopes)
        key_file.add(self._path, key)
        return text

    def send(self, body: Any = EVENT, key: str | None = None, **headers: str | None) -> httpx2.Response:
        """With the headers of an allowed page, but for these; None: without the header."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        given = {"content-type": "text/plain;charset=UTF-8", "origin": self.server.page_url} | named
        return httpx2.post(
            f"{self.server.url}/v1/beacon",
            params={} if key == "" else {"key": key or self.key},
            content=body if isinstance(body, bytes) else json.dumps(body).encode(),
            headers={name: value for name, value in given.items() if value is not None},
        )

    def answers(self, status: int) -> float | None:
        return self.server.registry.get_sample_value("anabranch_collect_requests_total", {"status": str(status)})


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    collector = Collector(tmp_path)
    with collector.server.running():
        yield collector


def test_a_beacon_is_answered_as_the_same_events_are(collector: Collector) -> None:
    answer = collector.send([EVENT, EVENT | {"ts": "now"}])
    assert answer.status_code == 202
    assert answer.json()["taken"] == 1
    assert [refusal["field"] for refusal in answer.json()["refused"]] == ["ts"]
    assert answer.headers["Access-Control-Allow-Origin"] == collector.server.page_url, "the page may read the answer"
    assert collector.send(b"nope").status_code == 400
    assert (collector.answers(202), collector.answers(400)) == (1, 1)


@pytest.mark.parametrize("origin", [None, "null", "https://other.example", "https://127.0.0.1"])
def test_a_page_of_an_origin_that_is_not_allowed_is_refused_by_the_server_itself(
    collector: Collector, origin: str | None
) -> None:
    answer = collector.send(origin=origin)
    assert (answer.status_code, answer.headers["Content-Type"]) == (403, "application/problem+json")
    assert "ANABRANCH_ALLOWED_ORIGINS" in answer.json()["detail"]
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert not collector.server.publisher.events
    assert collector.answers(403) == 1


def test_a_key_that_can_do_more_than_write_events_must_not_be_in_an_address(collector: Collector) -> None:
    keys = (collector.key_with_more, collector.key_without, "nope", "")
    answers = [collector.send(key=key) for key in keys]
    assert [answer.status_code for answer in answers] == [403, 403, 401, 401]
    assert "with this scope alone" in answers[0].json()["detail"]
    assert collector.key_with_more not in answers[0].text
    assert not collector.server.publisher.events


def test_a_key_in_the_header_does_not_count_for_a_beacon(collector: Collector) -> None:
    assert collector.send(key="", authorization=f"Bearer {collector.key}").status_code == 401


@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded"])
def test_a_beacon_is_text(collector: Collector, content_type: str) -> None:
    assert collector.send(content_type=content_type).status_code == 415


def test_without_a_file_of_keys_a_page_needs_none_but_an_allowed_origin(tmp_path: Path) -> None:
    collector = Collector(tmp_path, has_keys=False)
    with collector.server.running():
        assert [collector.send(key=key).status_code for key in ("", "any")] == [202, 202]
        assert collector.send(key="", origin="https://other.example").status_code == 403


def test_what_needs_no_preflight_is_taken_at_the_beacon_alone(collector: Collector) -> None:
    answer = httpx2.post(
        f"{collector.server.url}/v1/events",
        content=json.dumps(EVENT).encode(),
        headers={"Content-Type": "text/plain", "Authorization": f"Bearer {collector.key}"},
    )
    assert answer.status_code == 415
