"""The API over HTTP, through the ASGI application, on a replica in memory."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anabranch.http import api_keys, key_file
from anabranch.http.key_file import KeyFile
from anabranch.messages import Event
from anabranch.ranking.ranking_id import followed_ranking
from consumers.api.answers import query_queue
from consumers.api.routes.endpoints import MAX_BODY_BYTES
from consumers.api.routes.operations import API
from tests.support.documented_routes import require_same
from tests.support.ranker_world import CATALOGUE, RankerWorld, purchases
from tests.support.replica_world import ReplicaProcess
from tests.support.serving_api import ORIGIN, Api, assert_is_problem

READS = [
    "/v1/users/u1/recommendations",
    f"/v1/items/{CATALOGUE[0]}/similar",
    f"/v1/items/{CATALOGUE[0]}/bought-together",
    "/v1/trending",
]


@pytest.fixture
def api(world: RankerWorld) -> Iterator[Api]:
    world.rank(*purchases(40))
    replica = ReplicaProcess(world)
    replica.settle()
    api = Api(replica)
    yield api
    assert api.admission.requests == 0, "every request gives its share back"


def test_recommendations_say_what_ranked_them_and_how_fresh_they_are(api: Api) -> None:
    answer = api.get("/v1/users/u1/recommendations", params={"limit": 3})
    assert answer.status_code == 200
    body = answer.json()
    assert (body["user_id"], body["placement"], body["release"]) == ("u1", "for_you", "r1")
    assert (body["is_known"], body["freshness_ms"], len(body["items"])) == (True, 0, 3)
    assert set(body["items"][0]) == {"item_id", "score", "source"}
    assert body["ranking_id"] != api.get("/v1/users/u1/recommendations").json()["ranking_id"]


def test_an_event_that_echoes_the_id_of_an_answer_says_what_ranked_its_item_and_at_which_place(api: Api) -> None:
    for path, placement, first in (
        ("/v1/users/u1/recommendations?limit=3&offset=2", "for_you", 3),
        (f"/v1/items/{CATALOGUE[0]}/similar", "", 1),
    ):
        answer = api.get(path).json()
        for place, item in enumerate(answer["items"], start=first):
            event = Event(
                event_id="e", user_id="u1", type="click", ts=1, item_id=item["item_id"], ranking_id=answer["ranking_id"]
            )
            followed = followed_ranking(event)
            assert followed is not None
            assert (followed.release, followed.placement, followed.rank) == ("r1", placement, place)


def test_ids_may_have_slashes_and_any_letters(api: Api) -> None:
    answer = api.get("/v1/users/a%2Fb%20%C3%A9/recommendations")
    assert answer.json()["user_id"] == "a/b é"
    assert_is_problem(api.get("/v1/items/a%2Fb/similar"), 404, "'a/b'")


@pytest.mark.parametrize("path", ["/v1/users/a%0Ab", "/v1/items/%00/similar", "/v1/users//recommendations"])
def test_what_can_be_no_id_is_refused(path: str, api: Api) -> None:
    assert_is_problem(api.get(path), 400, "is not an id", "1 to 512 characters")
    assert_is_problem(api.get(f"/v1/users/{'u' * 513}"), 400, "user_id", "<= 512")


@pytest.mark.parametrize("path", READS)
def test_every_list_of_items_takes_conditions(path: str, api: Api) -> None:
    assert api.get(path, params={"category": "FOOD > SOUP", "limit": 5}).json()["items"] == []
    excluded = [item["item_id"] for item in api.get(path, params={"limit": 2}).json()["items"]]
    left = api.get(path, params=[("exclude", item_id) for item_id in excluded]).json()["items"]
    assert not {item["item_id"] for item in left} & set(excluded)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"limit": "0"}, ("limit", ">= 1")),
        ({"limit": "many"}, ("limit", "int")),
        ({"limit": "150", "offset": "100"}, ("250", "200")),
        ({"colour": "red"}, ("colour", "category")),
        ({"placement": "home"}, ("'home'", "for_you")),
        ([("limit", "1"), ("limit", "2")], ("limit", "once")),
        ({"price_from": "cheap"}, ("price_from",)),
        ({"price_from": "nan"}, ("price_from",)),
        ({"price_below": "1e300"}, ("price_below", "<= 1000000000000")),
        ({"exclude": ""}, ("exclude",)),
        ({"price_from": "null"}, ("price_from", "leave it out")),
        ({"placement": "null"}, ("placement", "leave it out")),
    ],
)
def test_a_parameter_that_is_wrong_is_named_with_what_there_is(
    parameters: Any, words: tuple[str, ...], api: Api
) -> None:
    assert_is_problem(api.get("/v1/users/u1/recommendations", params=parameters), 400, *words)


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/v1/recommendations", {"events": [{"type": "view"}]}, ("item_id",)),
        ("/v1/recommendations", {"events": [{"type": "look", "item_id": "i"}]}, ("events", "type")),
        ("/v1/recommendations", {"conditions": {"colour": "red"}}, ("colour",)),
        ("/v1/recommendations", [], ("object",)),
        ("/v1/rank", {"items": []}, ("items",)),
        ("/v1/rank", {"user_id": "u1"}, ("items",)),
    ],
)
def test_a_body_that_is_wrong_is_answered_with_the_field(path: str, body: object, words: Any, api: Api) -> None:
    assert_is_problem(api.post(path, body), 400, *words)


def test_a_body_that_is_no_json_or_too_large_is_a_problem(api: Api) -> None:
    assert_is_problem(api.request("POST", "/v1/rank", content=b"\xff{"), 400, "body")
    assert_is_problem(api.request("POST", "/v1/rank", content=b" " * (MAX_BODY_BYTES + 1)), 413)


def test_a_guests_events_and_a_list_to_rank_are_posted(api: Api) -> None:
    guest = api.post("/v1/recommendations", {"events": [{"item_id": CATALOGUE[4]}], "limit": 4}).json()
    assert (guest["user_id"], guest["is_known"], len(guest["items"])) == (None, True, 4)
    ranked = api.post("/v1/rank", {"user_id": "u1", "items": CATALOGUE[:3]}).json()
    assert {item["item_id"] for item in ranked["items"]} == set(CATALOGUE[:3])


def test_only_an_admin_reads_what_is_known_of_a_user(api: Api, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    secrets = {}
    for name, scope in (("shop", "rankings:read"), ("office", "admin"), ("page", "events:write")):
        secrets[name], key = api_keys.create(name, [scope])  # type: ignore[list-item]
        key_file.add(path, key)
    guarded = Api(api.replica, KeyFile(path))

    def status(request: str, name: str) -> int:
        return guarded.get(request, headers={"Authorization": f"Bearer {secrets[name]}"}).status_code

    assert [status("/v1/users/u1", name) for name in ("shop", "office", "page")] == [403, 200, 403]
    assert [status(READS[0], name) for name in ("shop", "office", "page")] == [200, 403, 403]
    assert_is_problem(guarded.get(READS[0]), 401)


def test_what_is_known_of_a_user_is_one_document(api: Api) -> None:
    body = api.get("/v1/users/u1").json()
    assert body["is_known"] and body["history"]
    assert api.get("/v1/users/nobody").json()["is_known"] is False


def test_too_many_requests_at_once_are_answered_with_503(api: Api) -> None:
    busy = Api(api.replica, max_requests=1)
    ticket = busy.admission.enter()
    answer = busy.get(READS[0])
    assert_is_problem(answer, 503)
    assert "Retry-After" in answer.headers
    ticket.release()
    assert busy.get(READS[0]).status_code == 200


def test_without_an_answer_in_time_the_client_is_told_to_come_again(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_queue, "ANSWERED_WITHIN_S", 0.01)
    api.answers = False
    assert_is_problem(api.get(READS[0]), 503, "no answer")
    assert api.queue.take(10) == [], "nobody waits for it any more"


def test_pages_of_allowed_sites_may_read_the_answers(api: Api) -> None:
    answer = api.get(READS[0], headers={"Origin": ORIGIN})
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    other = api.get(READS[0], headers={"Origin": "https://other.example"})
    assert "Access-Control-Allow-Origin" not in other.headers


def test_requests_are_counted_by_endpoint_and_status_without_ids(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    api.get(READS[0])
    api.get("/v1/items/none/similar")
    labels = {"endpoint": "/v1/users/{user_id}/recommendations", "status": "200"}
    assert api.replica.metric("serve_requests_total", **labels) == 1
    assert api.replica.metric("serve_requests_total", endpoint="/v1/items/{item_id}/similar", status="404") == 1
    assert api.replica.metric("serve_seconds_count", endpoint="/v1/users/{user_id}/recommendations") == 1
    ours = [record for record in caplog.records if record.name.partition(".")[0] in ("anabranch", "consumers")]
    assert not any("u1" in record.getMessage() for record in ours)


def test_probes_say_whether_the_states_are_up_to_date(api: Api) -> None:
    assert api.get("/readyz").status_code == 200
    api.replica.metrics.loop.turned("restoring user states")
    answer = api.get("/readyz")
    assert (answer.status_code, answer.text) == (503, "restoring user states\n")
    assert api.get("/healthz").status_code == 200


def test_every_route_is_in_the_openapi_document_which_is_served(api: Api) -> None:
    require_same(api.app, API, "Describe it in consumers/api/routes/operations.py, then run `anabranch schema`")
    assert api.get("/openapi.json").content == API.checked_in_document()
