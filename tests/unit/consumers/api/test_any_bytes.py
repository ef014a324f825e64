"""Any bytes at the socket of the serving API: half requests, odd heads, broken chunks, bombs.

`FUZZ_REQUESTS=100000` makes more of them than a run of all tests needs, and `FUZZ_SEED` others.
"""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from tests.support.attacked_server import attack
from tests.support.ranker_world import CATALOGUE, RankerWorld, purchases
from tests.support.raw_requests import ValidRequest
from tests.support.replica_world import ReplicaProcess
from tests.support.serving_api import Api

EVENT = {"type": "view", "ts": 1_700_000_000_000, "item_id": CATALOGUE[0]}
VALID = [
    ValidRequest("GET", "/v1/users/u1/recommendations?limit=3"),
    ValidRequest("POST", "/v1/recommendations", json.dumps({"user_id": "u1", "events": [EVENT]}).encode()),
    ValidRequest("POST", "/v1/rank", json.dumps({"user_id": "u1", "items": CATALOGUE[:2]}).encode()),
    ValidRequest("GET", f"/v1/items/{quote(CATALOGUE[0])}/similar"),
    ValidRequest("GET", "/v1/trending"),
    ValidRequest("GET", "/v1/users/u1"),
    ValidRequest("GET", "/v1/releases"),
    ValidRequest("GET", "/v1/rules"),
    ValidRequest("GET", "/v1/stream/users/u1?limit=3"),
]


def test_no_bytes_are_a_defect_and_the_api_answers_afterwards(
    world: RankerWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world.rank(*purchases(40))
    replica = ReplicaProcess(world)
    replica.settle()
    api = Api(replica, max_requests=100)
    statuses = attack(api.app, replica.metrics.loop, api.admission, VALID, caplog)
    assert {200, 400, 404} <= statuses.keys()
