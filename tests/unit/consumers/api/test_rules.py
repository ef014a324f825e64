"""Rules over HTTP: put, read, previewed and removed, as `anabranch rules` does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kafka.errors import ProducerFencedError

from anabranch.errors import BrokerUnavailable
from anabranch.http import api_keys, key_file
from anabranch.http.key_file import KeyFile
from anabranch.placements import DISCOVER, FOR_YOU
from tests.support.ranker_world import CATALOGUE, RankerWorld, purchases
from tests.support.replica_world import ReplicaProcess
from tests.support.serving_api import Api, assert_is_problem

PINNED = {"rule_id": "front", "action": "pin", "items": [CATALOGUE[39]], "position": 1, "note": "the new season"}
HIDDEN = {"rule_id": "recall", "action": "hide", "items": [CATALOGUE[38]]}


@pytest.fixture
def api(world: RankerWorld) -> Api:
    world.settings["placements"] = (FOR_YOU, DISCOVER)
    world.rank(*purchases(40))
    replica = ReplicaProcess(world)
    replica.settle()
    return Api(replica)


def put(api: Api, rule: dict[str, Any]) -> None:
    answer = api.request("PUT", f"/v1/rules/{rule['rule_id']}", json=rule)
    assert (answer.status_code, answer.json()) == (200, rule)
    api.replica.settle()


def slate(api: Api, **parameters: str) -> list[str]:
    answer = api.get("/v1/users/u1/recommendations", params={"limit": "5", **parameters})
    return [item["item_id"] for item in answer.json()["items"]]


def test_a_rule_holds_from_when_it_is_put_until_it_is_removed(api: Api) -> None:
    put(api, PINNED)
    assert slate(api)[0] == CATALOGUE[39]
    assert api.get("/v1/rules/front").json() == PINNED
    answer = api.request("DELETE", "/v1/rules/front")
    assert (answer.status_code, answer.content) == (204, b"")
    api.replica.settle()
    assert slate(api)[0] != CATALOGUE[39]
    assert_is_problem(api.get("/v1/rules/front"), 404, "'front'", "/v1/rules")
    assert_is_problem(api.request("DELETE", "/v1/rules/front"), 404, "'front'")


def test_rules_are_listed_in_the_order_of_their_ids_with_those_that_hold_now(api: Api) -> None:
    put(api, HIDDEN)
    put(api, PINNED)
    put(api, {**HIDDEN, "rule_id": "past", "ends": 1_000})
    listed = api.get("/v1/rules").json()
    assert [rule["rule_id"] for rule in listed["rules"]] == ["front", "past", "recall"]
    assert listed["holding"] == ["front", "recall"]


def test_the_history_says_which_key_changed_a_rule_and_nothing_of_what_did_not_change(api: Api, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    secret, office = api_keys.create("office", ["admin"])
    key_file.add(path, office)
    guarded = Api(api.replica, KeyFile(path))
    headers = {"Authorization": f"Bearer {secret}"}
    for position in (1, 1, 2):
        answer = guarded.request("PUT", "/v1/rules/front", json={**PINNED, "position": position}, headers=headers)
        assert answer.status_code == 200
    changes = [(change.by, change.before, change.after) for change in guarded.rules.history]
    assert [(by, before and before.position, after and after.position) for by, before, after in changes] == [
        ("office", None, 1),
        ("office", 1, 2),
    ]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"action": "hide", "items": ["i"]}, ("rule_id",)),
        ({"rule_id": "front", "action": "hide"}, ("condition",)),
        ({"rule_id": "front", "action": "pin", "items": ["i"]}, ("position",)),
        ({"rule_id": "other", "action": "hide", "items": ["i"]}, ("'front'", "'other'")),
        ({"rule_id": "front", "action": "hide", "items": ["i"], "placements": ["home"]}, ("home", "discover")),
        ({"rule_id": "front", "action": "hide", "items": ["i"], "colour": "red"}, ("colour",)),
        ([], ("object",)),
    ],
)
def test_a_faulty_rule_is_refused_with_what_is_wrong_and_not_published(
    body: object, words: tuple[str, ...], api: Api
) -> None:
    assert_is_problem(api.request("PUT", "/v1/rules/front", json=body), 400, *words)
    assert api.rules.history == []


@pytest.mark.parametrize("failure", [BrokerUnavailable("no broker at kafka:9092"), ProducerFencedError("fenced")])
def test_a_change_that_no_broker_acknowledged_is_answered_with_503(failure: Exception, api: Api) -> None:
    api.rules.failure = failure
    for answer in (api.request("PUT", "/v1/rules/front", json=PINNED), api.request("DELETE", "/v1/rules/front")):
        assert_is_problem(answer, 503, "not acknowledged")
        assert "Retry-After" in answer.headers


def test_rules_are_not_listed_before_all_of_them_were_read(world: RankerWorld) -> None:
    api = Api(ReplicaProcess(world, release=None))
    assert_is_problem(api.get("/v1/rules"), 503, "release")


def test_a_preview_shows_the_slates_without_and_with_a_rule_and_changes_nothing(api: Api) -> None:
    unknown = {"rule_id": "later", "action": "pin", "items": ["in no catalogue"], "position": 1}
    items = len(api.replica.store.items)
    preview = api.post("/v1/rules/preview", {"user_id": "u1", "rules": [PINNED, unknown]}).json()
    assert (preview["user_id"], preview["is_known"], preview["release"]) == ("u1", True, "r1")
    for placement in ("for_you", "discover"):
        before = preview["before"][placement]
        assert before == slate(api, placement=placement)
        assert preview["after"][placement] == [CATALOGUE[39], *(item for item in before if item != CATALOGUE[39])][:5]
    assert slate(api) == preview["before"]["for_you"]
    assert api.get("/v1/rules").json()["rules"] == []
    assert api.rules.history == []
    assert len(api.replica.store.items) == items


def test_a_previewed_rule_stands_in_for_the_one_with_its_id(api: Api) -> None:
    put(api, PINNED)
    tried = {**PINNED, "items": [CATALOGUE[37]]}
    preview = api.post("/v1/rules/preview", {"user_id": "nobody", "rules": [tried]}).json()
    assert preview["is_known"] is False
    assert preview["before"]["for_you"][0] == CATALOGUE[39]
    assert preview["after"]["for_you"][0] == CATALOGUE[37]
    assert CATALOGUE[39] not in preview["after"]["for_you"][:1]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"rules": [HIDDEN]}, ("user_id",)),
        ({"user_id": "u1", "rules": []}, ("rules",)),
        ({"user_id": "u1", "rules": [{**PINNED, "position": None}]}, ("position",)),
        ({"user_id": "u1", "rules": [{**PINNED, "placements": ["home"]}]}, ("home",)),
    ],
)
def test_a_faulty_preview_is_refused(body: object, words: tuple[str, ...], api: Api) -> None:
    assert_is_problem(api.post("/v1/rules/preview", body), 400, *words)


def test_a_rule_may_be_called_preview_and_have_slashes(api: Api) -> None:
    put(api, {**HIDDEN, "rule_id": "preview"})
    assert api.get("/v1/rules/preview").json()["rule_id"] == "preview"
    put(api, {**HIDDEN, "rule_id": "summer/hats"})
    assert api.get("/v1/rules/summer%2Fhats").json()["rule_id"] == "summer/hats"


def test_rules_are_for_admins(api: Api, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    secret, reader = api_keys.create("shop", ["rankings:read"])
    key_file.add(path, reader)
    guarded, headers = Api(api.replica, KeyFile(path)), {"Authorization": f"Bearer {secret}"}
    body = {"user_id": "u1", "rules": [PINNED]}
    for method, route in (
        ("GET", ""),
        ("GET", "/front"),
        ("PUT", "/front"),
        ("DELETE", "/front"),
        ("POST", "/preview"),
    ):
        answer = guarded.request(method, f"/v1/rules{route}", json=body, headers=headers)
        assert_is_problem(answer, 403, "admin")
    assert guarded.rules.history == []
