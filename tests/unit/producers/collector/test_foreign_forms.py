"""Segment's and GA4's forms through the ASGI application, with a publisher in memory."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from anabranch.http import api_keys, key_file
from anabranch.http.key_file import KeyFile
from producers.collector.request_handler import UNAUTHORIZED_SHARE
from tests.support.collector_world import World, assert_is_problem, until

VIEW = {"type": "track", "event": "Product Viewed", "userId": "u1", "messageId": "m1", "properties": {"product_id": 1}}
SIGN_UP = {"type": "track", "event": "Signed Up", "userId": "u1"}
GROUP = {"type": "group", "userId": "u1", "groupId": "g"}
IDENTIFY = {"type": "identify", "userId": "u1", "anonymousId": "a1"}
GA4_VIEW = {"name": "view_item", "params": {"items": [{"item_id": "i1"}]}}


def post(world: World, path: str, body: Any, **options: Any) -> httpx2.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | options.pop("headers", {})
    return world.request("POST", path, content=content, headers=headers, **options)


def ga4(*events: Any, **fields: Any) -> dict[str, Any]:
    return {"client_id": "c1", "events": list(events)} | fields


# --- Segment ----------------------------------------------------------------------------------------------------------


def test_a_batch_is_answered_call_by_call() -> None:
    world = World()
    answer = post(world, "/v1/batch", {"batch": [VIEW, SIGN_UP, GROUP, IDENTIFY], "sentAt": "2026-01-01T00:00:00Z"})
    assert answer.status_code == 200
    report = answer.json()
    assert (report["success"], report["taken"], report["identities"]) == (True, 1, 1)
    assert [(refusal["index"], refusal["field"]) for refusal in report["refused"]] == [(2, "type")]
    assert [ignored["index"] for ignored in report["ignored"]] == [1]
    assert [event.event_id for event in world.publisher.events] == ["m1"]
    assert [visitor.anonymous_id for visitor in world.publisher.identities] == ["a1"]
    for name, count in (("events_taken", 1), ("events_refused", 1), ("events_ignored", 1), ("identities", 1)):
        assert world.value(f"anabranch_collect_{name}_total") == count
    assert world.value("anabranch_collect_requests_total", status="200") == 1


@pytest.mark.parametrize(
    ("call", "message", "events", "identities"),
    [
        ("track", VIEW, 1, 0),
        ("page", VIEW, 1, 0),
        ("identify", IDENTIFY, 0, 1),
        ("alias", {"userId": "u1", "previousId": "a1"}, 0, 1),
    ],
)
def test_a_single_call_needs_no_type(call: str, message: dict[str, Any], events: int, identities: int) -> None:
    world = World()
    answer = post(world, f"/v1/{call}", {name: value for name, value in message.items() if name != "type"})
    assert answer.json() == {
        "success": True,
        "taken": events,
        "identities": identities,
        "refused": [],
        "ignored": [],
    }
    assert (len(world.publisher.events), len(world.publisher.identities)) == (events, identities)


@pytest.mark.parametrize("body", [{"batch": []}, {"batch": [SIGN_UP]}, {"batch": [GROUP]}, {"batch": [3]}])
def test_a_batch_of_which_nothing_is_published_succeeds_without_the_broker_for_a_client_would_retry_it(
    body: Any,
) -> None:
    world = World()
    world.publisher.broken = True
    assert post(world, "/v1/batch", body).status_code == 200
    assert (world.admission.requests, world.admission.bytes) == (0, 0)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/batch", b'{"batch": [', 400),
        ("/v1/batch", {}, 400),
        ("/v1/batch", [VIEW], 400),
        ("/v1/batch", b'{"batch": [], "sentAt": "\xff"}', 400),
        ("/v1/track", b"nope", 400),
        ("/v1/track", VIEW | {"context": "x" * 500}, 413),
        ("/v1/batch", {"batch": [VIEW] * 20}, 413),
        ("/v1/batch", {"batch": [SIGN_UP] * 21}, 413),
        ("/v1/group", GROUP, 404),
    ],
)
def test_only_what_cannot_be_read_is_a_problem(path: str, body: Any, status: int) -> None:
    world = World()
    assert_is_problem(post(world, path, body), status)
    assert not world.publisher.events


def test_a_batch_succeeds_only_once_the_broker_has_acknowledged_it() -> None:
    world = World()
    world.publisher.broken = True
    for batch in ([VIEW], [IDENTIFY]):
        answer = post(world, "/v1/batch", {"batch": batch})
        assert "same event_ids or messageIds" in assert_is_problem(answer, 503)["detail"]
        assert int(answer.headers["Retry-After"]) > 0
    assert world.value("anabranch_collect_identities_total") == 0


def test_the_write_key_is_the_user_name_of_basic_authentication(tmp_path: Path) -> None:
    text, key = api_keys.create("shop", ["events:write"])
    key_file.add(tmp_path / "keys.json", key)
    world = World(KeyFile(tmp_path / "keys.json"))
    assert post(world, "/v1/track", VIEW, auth=httpx2.BasicAuth(text, "")).status_code == 200
    assert_is_problem(post(world, "/v1/track", VIEW), 401)


def keyed_world(folder: Path, max_requests: int = 10) -> tuple[World, str, str]:
    """With a key that may send events and one that may not."""
    (text, key), reader = api_keys.create("shop", ["events:write"]), api_keys.create("reader", ["rankings:read"])
    for stored in (key, reader[1]):
        key_file.add(folder / "keys.json", stored)
    return World(KeyFile(folder / "keys.json"), max_requests), text, reader[0]


@pytest.mark.parametrize(("path", "body"), [("/v1/batch", {"batch": [VIEW]}), ("/v1/track", VIEW), ("/v1/page", VIEW)])
def test_a_write_key_in_the_body_lets_in_as_one_in_the_header_does(path: str, body: Any, tmp_path: Path) -> None:
    world, text, reader = keyed_world(tmp_path)
    assert post(world, path, body | {"writeKey": text}).json()["taken"] == 1
    compressed = gzip.compress(json.dumps(body | {"writeKey": text}).encode())
    assert post(world, path, compressed, headers={"Content-Encoding": "gzip"}).json()["taken"] == 1
    for key, status in ((reader, 403), ("nope", 401), ("", 401), (None, 401), (7, 400)):
        told = assert_is_problem(post(world, path, body | {"writeKey": key}), status)
        assert not key or str(key) not in json.dumps(told)
    assert_is_problem(post(world, path, b"nope"), 400)
    assert len(world.publisher.events) == 2
    assert text not in msgspec.json.encode(world.publisher.events).decode()
    assert (world.admission.requests, world.admission.bytes) == (0, 0)


def test_the_header_counts_where_there_are_two_keys_and_the_key_of_a_batch_for_all_of_its_calls(tmp_path: Path) -> None:
    world, text, _ = keyed_world(tmp_path)
    keyed = VIEW | {"writeKey": text}
    for header in ("Bearer nope", "Basic !!", ""):
        assert_is_problem(post(world, "/v1/track", keyed, headers={"Authorization": header}), 401)
    header = {"Authorization": f"Bearer {text}"}
    assert post(world, "/v1/track", VIEW | {"writeKey": "nope"}, headers=header).is_success
    assert_is_problem(post(world, "/v1/batch", {"batch": [keyed]}), 401)
    assert post(World(), "/v1/track", VIEW | {"writeKey": "any"}).is_success, "no key is needed"


def test_only_a_share_of_the_requests_in_flight_may_be_of_clients_that_have_not_shown_a_key(tmp_path: Path) -> None:
    world, text, _ = keyed_world(tmp_path, max_requests=2 * UNAUTHORIZED_SHARE)
    let_go = asyncio.Event()

    async def slow_body(body: bytes) -> AsyncIterator[bytes]:
        yield body[:10]
        await let_go.wait()
        yield body[10:]

    async def work(client: httpx2.AsyncClient) -> None:
        body, json_type = json.dumps(VIEW | {"writeKey": text}).encode(), {"Content-Type": "application/json"}
        slow = [
            asyncio.create_task(client.post("/v1/track", content=slow_body(body), headers=json_type)) for _ in range(2)
        ]
        await until(lambda: world.admission.requests == 2)
        assert (await client.post("/v1/track", content=body, headers=json_type)).status_code == 503
        authorized = json_type | {"Authorization": f"Bearer {text}"}
        assert (await client.post("/v1/track", content=body, headers=authorized)).status_code == 200
        let_go.set()
        assert [(await answer).status_code for answer in slow] == [200, 200]

    world.run(work)
    assert world.admission.requests == 0


# --- GA4 --------------------------------------------------------------------------------------------------------------


def test_a_request_of_ga4_is_answered_without_a_body_and_what_is_invalid_is_counted() -> None:
    world = World()
    answer = post(world, "/mp/collect", ga4(GA4_VIEW, {"name": "login"}, {"name": "search"}, user_id="u1"))
    assert (answer.status_code, answer.content) == (204, b"")
    assert [(event.type, event.item_id, event.user_id) for event in world.publisher.events] == [("view", "i1", "u1")]
    assert [visitor.anonymous_id for visitor in world.publisher.identities] == ["c1"]
    for name in ("events_taken", "events_refused", "events_ignored", "identities"):
        assert world.value(f"anabranch_collect_{name}_total") == 1
    assert world.value("anabranch_collect_requests_total", status="204") == 1


def test_events_of_ga4_that_are_ignored_are_no_problem_and_those_that_are_all_invalid_are() -> None:
    world = World()
    assert post(world, "/mp/collect", ga4({"name": "login"})).status_code == 204
    report = assert_is_problem(post(world, "/mp/collect", ga4({"name": "search"}, user_id="u1")), 400)
    assert [refusal["field"] for refusal in report["refused"]] == ["events[0].params.search_term"]
    assert not world.publisher.events and not world.publisher.identities


@pytest.mark.parametrize(
    ("body", "status"), [(b"nope", 400), ({}, 400), (ga4(), 400), (ga4(*[{"name": "login"}] * 26), 413)]
)
@pytest.mark.parametrize("path", ["/mp/collect", "/debug/mp/collect"])
def test_a_request_of_ga4_that_cannot_be_read_is_a_problem(path: str, body: Any, status: int) -> None:
    assert_is_problem(post(World(), path, body), status)


def test_the_debug_path_says_what_is_invalid_and_publishes_and_counts_nothing() -> None:
    world = World()
    world.publisher.broken = True
    assert post(world, "/debug/mp/collect", ga4(GA4_VIEW, user_id="u1")).json() == {"validationMessages": []}
    bad = {"name": "view_item", "params": {"items": [{"item_id": "i", "price": "free"}]}}
    answer = post(world, "/debug/mp/collect", ga4(bad, {"name": "login"}))
    assert answer.status_code == 200
    refused, ignored = answer.json()["validationMessages"]
    assert (refused["fieldPath"], refused["validationCode"]) == ("events[0].params.items[0].price", "VALUE_INVALID")
    assert "give the price" in refused["description"]
    assert (ignored["fieldPath"], ignored["validationCode"]) == ("events[1].name", "NAME_INVALID")
    assert not world.publisher.events
    assert world.value("anabranch_collect_events_refused_total") == 0


def test_the_api_secret_is_a_key_with_no_other_scope(tmp_path: Path) -> None:
    (text, key), admin = api_keys.create("shop", ["events:write"]), api_keys.create("me", ["events:write", "admin"])
    for stored in (key, admin[1]):
        key_file.add(tmp_path / "keys.json", stored)
    world = World(KeyFile(tmp_path / "keys.json"))
    for path in ("/mp/collect", "/debug/mp/collect"):
        assert post(world, f"{path}?measurement_id=G-1&api_secret={text}", ga4(GA4_VIEW)).is_success
        assert post(world, path, ga4(GA4_VIEW), headers={"Authorization": f"Bearer {text}"}).is_success
        assert_is_problem(post(world, f"{path}?api_secret=nope", ga4(GA4_VIEW)), 401)
        assert_is_problem(post(world, f"{path}?api_secret={admin[0]}", ga4(GA4_VIEW)), 403)
        assert_is_problem(post(world, path, ga4(GA4_VIEW)), 401)


# --- memory -----------------------------------------------------------------------------------------------------------


def test_an_order_counts_in_flight_with_all_that_it_becomes() -> None:
    world = World()
    in_flight: list[int] = []
    publish = world.publisher.publish

    def measured(*content: Any) -> Any:
        in_flight.append(world.admission.bytes)
        return publish(*content)

    world.publisher.publish = measured  # type: ignore[method-assign]
    order = {"event": "Order Completed", "userId": "u" * 200, "properties": {"products": [{"product_id": 1}] * 10}}
    assert post(world, "/v1/track", order).json()["taken"] == 10
    assert in_flight[0] > 10 * 200 > len(json.dumps(order))
    assert world.admission.bytes == 0


# --- documentation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/batch", "/mp/collect"])
def test_the_example_of_the_documentation_is_answered_as_it_says(path: str) -> None:
    document = Path(__file__).parents[4] / "docs" / "api.md"
    _, _, section = document.read_text("utf-8").partition(f"curl http://127.0.0.1:8000{path}")
    if not section:
        _, _, section = document.read_text("utf-8").partition(f'curl "http://127.0.0.1:8000{path}')
    body = json.loads(section.partition("--data '")[2].partition("'\n")[0])
    world = World()
    answer = post(world, path, body)
    assert len(world.publisher.events) == 2
    if path == "/mp/collect":
        assert answer.status_code == 204
    else:
        assert answer.json() == json.loads(section.partition("```json\n")[2].partition("```")[0])
