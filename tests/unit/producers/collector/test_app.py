"""The collector's HTTP interface, through the ASGI application, with a publisher in memory."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest

from anabranch.http import api_keys, key_file
from anabranch.http.key_file import KeyFile
from producers.collector import request_handler
from producers.collector.operations import API
from tests.support.collector_world import ORIGIN, World, assert_is_problem, until
from tests.support.documented_routes import require_same

JSON = {"Content-Type": "application/json"}


def event(number: int, **changes: Any) -> dict[str, Any]:
    return {"event_id": f"e{number}", "user_id": "u", "type": "view", "ts": 1, "item_id": "i"} | changes


# --- what is taken ----------------------------------------------------------------------------------------------------


def test_valid_events_are_taken_and_the_others_are_answered_by_index() -> None:
    world = World()
    answer = world.send([event(0), event(1, ts="now"), event(2)])
    assert answer.status_code == 202
    assert answer.json()["taken"] == 2
    assert [(refusal["index"], refusal["field"]) for refusal in answer.json()["refused"]] == [(1, "ts")]
    assert [taken.event_id for taken in world.publisher.events] == ["e0", "e2"]
    assert world.value("anabranch_collect_events_taken_total") == 2
    assert world.value("anabranch_collect_events_refused_total") == 1
    assert world.value("anabranch_collect_requests_total", status="202") == 1
    assert world.value("anabranch_collect_acknowledged_seconds_count") == 1


def test_lines_of_json_are_taken() -> None:
    world = World()
    lines = b"\n".join(json.dumps(event(number)).encode() for number in range(3))
    assert world.send(lines, {"Content-Type": "application/x-ndjson"}).json() == {"taken": 3, "refused": []}


def test_if_no_event_is_valid_the_request_is_refused_with_the_reasons() -> None:
    world = World()
    told = assert_is_problem(world.send([event(0, type="buy"), 3]), 400)
    assert told["taken"] == 0
    assert [refusal["index"] for refusal in told["refused"]] == [0, 1]
    assert not world.publisher.events
    assert world.value("anabranch_collect_requests_total", status="400") == 1


# --- acknowledgement --------------------------------------------------------------------------------------------------


def test_the_answer_comes_only_after_the_broker_has_acknowledged() -> None:
    world = World()
    world.publisher.holds = True

    async def work(client: httpx2.AsyncClient) -> None:
        request = asyncio.create_task(client.post("/v1/events", json=event(0)))
        await until(lambda: world.publisher.waiting == 1)
        await asyncio.sleep(0.05)
        assert not request.done()
        assert (world.admission.requests, world.admission.bytes > 0) == (1, True)
        world.publisher.acknowledge()
        assert (await request).status_code == 202
        assert (world.admission.requests, world.admission.bytes) == (0, 0)

    world.run(work)


def test_events_that_are_not_acknowledged_are_never_said_to_be_taken() -> None:
    world = World()
    world.publisher.broken = True
    answer = world.send([event(0), event(1, ts="now")])
    told = assert_is_problem(answer, 503)
    assert "taken" not in told and "same event_ids" in told["detail"]
    assert int(answer.headers["Retry-After"]) > 0
    assert world.value("anabranch_collect_events_taken_total") == 0
    assert world.value("anabranch_collect_events_unacknowledged_total") == 1
    assert world.admission.requests == 0


def test_a_request_without_an_acknowledgement_in_time_is_answered_and_occupies_memory_until_its_report(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(request_handler, "ACKNOWLEDGED_WITHIN_S", 0.01)
    monkeypatch.setattr(request_handler, "REPORT_SLACK_S", 0.0)
    world = World(max_requests=1)
    world.publisher.holds = True

    async def work(client: httpx2.AsyncClient) -> None:
        assert_is_problem(await client.post("/v1/events", json=event(0)), 503)
        assert world.admission.requests == 1
        assert_is_problem(await client.post("/v1/events", json=event(1)), 503)
        assert [sent.event_id for sent in world.publisher.events] == ["e0"], "refused at once"
        world.publisher.acknowledge()
        await until(lambda: world.admission.requests == 0)

    world.run(work)


def test_beyond_the_limit_a_request_is_refused_at_once_and_the_others_are_taken() -> None:
    world = World(max_requests=2)
    world.publisher.holds = True

    async def work(client: httpx2.AsyncClient) -> None:
        requests = [asyncio.create_task(client.post("/v1/events", json=event(number))) for number in range(2)]
        await until(lambda: world.publisher.waiting == 2)
        refused = await client.post("/v1/events", json=event(2))
        assert_is_problem(refused, 503)
        assert refused.headers["Retry-After"] == "1"
        assert world.value("anabranch_collect_requests_in_flight") == 2
        assert world.value("anabranch_collect_requests_in_flight_limit") == 2
        assert world.value("anabranch_collect_bytes_in_flight_limit") == 10_000
        world.publisher.acknowledge()
        assert [(await request).status_code for request in requests] == [202, 202]

    world.run(work)


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{" * 2_001, {}, 413),
        ([event(number) for number in range(21)], {}, 413),
        (b"nope", {}, 400),
        (b"[" * 1_999, {}, 400),
        ([event(0)], {"Content-Encoding": "br"}, 415),
        ([event(0)], {"Content-Encoding": "gzip"}, 400),
        pytest.param(gzip.compress(b" " * 2_001), {"Content-Encoding": "gzip"}, 413, id="too large decompressed"),
        ([event(0)], {"Content-Type": "text/plain"}, 415),
        ([event(0)], {"Content-Type": ""}, 415),
    ],
)
def test_a_request_beyond_the_limits_is_refused_and_leaves_nothing_behind(
    body: Any, headers: Mapping[str, str], status: int
) -> None:
    world = World()
    assert_is_problem(world.send(body, headers), status)
    assert not world.publisher.events
    assert (world.admission.requests, world.admission.bytes) == (0, 0)
    assert world.value("anabranch_collect_requests_total", status=str(status)) == 1


def test_a_body_without_a_length_is_bounded_too() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 100

    assert_is_problem(World().request("POST", "/v1/events", content=endless(), headers=JSON), 413)


def test_a_compressed_body_is_taken_and_counts_with_all_that_it_holds() -> None:
    world = World()
    world.publisher.holds = True
    body = gzip.compress(json.dumps([event(0)]).encode() + b" " * 1_000)

    async def work(client: httpx2.AsyncClient) -> None:
        headers = JSON | {"Content-Encoding": "gzip"}
        request = asyncio.create_task(client.post("/v1/events", content=body, headers=headers))
        await until(lambda: world.publisher.waiting == 1)
        assert world.admission.bytes > 1_000
        world.publisher.acknowledge()
        assert (await request).json() == {"taken": 1, "refused": []}

    world.run(work)
    assert world.admission.bytes == 0


def test_a_key_that_sends_more_than_its_rate_is_told_when_to_send_again_and_the_others_are_served(
    tmp_path: Path,
) -> None:
    path = tmp_path / "keys.json"
    shop, blog = (api_keys.create(name, ["events:write"]) for name in ("shop", "blog"))
    for _, key in (shop, blog):
        key_file.add(path, key)
    world = World(KeyFile(path), per_s=1)
    assert world.send([event(0), event(1, ts="now")], {"Authorization": f"Bearer {shop[0]}"}).status_code == 202
    told = world.send([event(2)], {"Authorization": f"Bearer {shop[0]}"})
    assert_is_problem(told, 429)
    assert int(told.headers["Retry-After"]) >= 1
    assert world.send([event(3)], {"Authorization": f"Bearer {blog[0]}"}).status_code == 202
    assert [taken.event_id for taken in world.publisher.events] == ["e0", "e3"]
    assert (world.admission.requests, world.admission.bytes) == (0, 0)
    assert world.value("anabranch_collect_requests_total", status="429") == 1
    assert world.value("anabranch_collect_events_refused_total") == 1


# --- keys -------------------------------------------------------------------------------------------------------------


def test_a_key_with_the_scope_is_needed_where_there_are_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    writer, reader = (api_keys.create(scope[:6], [scope]) for scope in ("events:write", "rankings:read"))
    for _, key in (writer, reader):
        key_file.add(path, key)
    world = World(KeyFile(path))
    assert world.send(event(0), {"Authorization": f"Bearer {writer[0]}"}).status_code == 202
    told = world.request("POST", "/v1/events", json=event(1), auth=httpx2.BasicAuth(writer[0], ""))
    assert told.status_code == 202
    without = world.send(event(2))
    assert_is_problem(without, 401)
    assert without.headers["WWW-Authenticate"].startswith("Bearer")
    assert_is_problem(world.send(event(3), {"Authorization": "Bearer nope"}), 401)
    assert_is_problem(world.send(event(4), {"Authorization": f"Bearer {reader[0]}"}), 403)
    assert [taken.event_id for taken in world.publisher.events] == ["e0", "e1"]
    assert world.request("GET", "/healthz").status_code == 200, "a probe needs no key"


def test_neither_keys_nor_bodies_nor_users_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text, key = api_keys.create("shop", ["events:write"])
    key_file.add(tmp_path / "keys.json", key)
    world = World(KeyFile(tmp_path / "keys.json"))
    bodies = ([event(0, user_id="zebra"), event(1, user_id="zebra", ts="okapi")], [event(2, type="okapi")], b"okapi")
    with caplog.at_level(logging.DEBUG):
        for broken in (False, True):
            world.publisher.broken = broken
            for body in bodies:
                world.send(body, {"Authorization": f"Bearer {text}"})
                world.send(body, {"Authorization": f"Bearer {text}x"})
    assert "were not acknowledged" in caplog.text
    assert not [word for word in (text, "zebra", "okapi") if word in caplog.text]


def test_a_broker_that_is_away_makes_one_log_line_and_not_one_for_each_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    world.publisher.broken = True
    for number in range(20):
        assert world.send(event(number)).status_code == 503
    assert len([line for line in caplog.messages if "were not acknowledged" in line]) == 1


# --- browsers, paths, probes ------------------------------------------------------------------------------------------


def test_browsers_may_send_from_the_pages_of_the_origins_that_are_allowed_and_from_no_others() -> None:
    world = World()
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    preflight = world.request("OPTIONS", "/v1/events", headers={"Origin": ORIGIN} | asked)
    assert preflight.status_code == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == ORIGIN
    allowed = {header.strip() for header in preflight.headers["Access-Control-Allow-Headers"].lower().split(",")}
    assert {"authorization", "content-type"} <= allowed
    assert world.send(event(0), {"Origin": ORIGIN}).headers["Access-Control-Allow-Origin"] == ORIGIN
    assert world.send(b"nope", {"Origin": ORIGIN}).headers["Access-Control-Allow-Origin"] == ORIGIN
    for origin in ("https://other.example", "http://shop.example", "https://shop.example.evil"):
        refused = world.request("OPTIONS", "/v1/events", headers={"Origin": origin} | asked)
        assert refused.status_code == 400
        assert "Access-Control-Allow-Origin" not in refused.headers
        assert "Access-Control-Allow-Origin" not in world.send(event(0), {"Origin": origin}).headers


def test_another_path_or_method_is_answered_with_a_problem() -> None:
    for method, path in (("GET", "/v2"), ("POST", "/v1/events/"), ("POST", "/")):
        assert_is_problem(World().request(method, path), 404)
    refused = World().request("GET", "/v1/events")
    assert_is_problem(refused, 405)
    assert refused.headers["Allow"] == "POST"


def test_a_defect_is_answered_with_a_problem_that_says_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("okapi")

    world = World()
    monkeypatch.setattr(world.publisher, "publish", fail)
    answer = world.send(event(0))
    assert_is_problem(answer, 500)
    assert "okapi" not in answer.text
    assert world.admission.requests == 0
    assert world.value("anabranch_collect_requests_total", status="500") == 1


def test_the_probes_say_what_the_process_waits_for() -> None:
    world = World()
    assert world.request("GET", "/readyz").status_code == 200
    world.metrics.loop.turned("the broker cannot be reached")
    ready = world.request("GET", "/readyz")
    assert (ready.status_code, ready.text) == (503, "the broker cannot be reached\n")
    assert world.request("GET", "/healthz").status_code == 200


def test_every_route_is_in_the_openapi_document_which_is_served_and_needs_no_key(tmp_path: Path) -> None:
    world = World(KeyFile(_keys_of_nobody(tmp_path)))
    require_same(world.app, API, "Describe it in producers/collector/operations.py, then run `anabranch schema`")
    assert world.request("GET", "/openapi.json").content == API.checked_in_document()


def _keys_of_nobody(folder: Path) -> Path:
    path = folder / "keys.json"
    path.write_text('{"keys": []}', "utf-8")
    return path
