"""Any bytes at the socket of the collector: half requests, odd heads, broken chunks, bombs.

`FUZZ_REQUESTS=100000` makes more of them than a run of all tests needs, and `FUZZ_SEED` others.
"""

from __future__ import annotations

import json

import pytest

from producers.collector.forms.limits import CollectorLimits
from tests.support.attacked_server import attack
from tests.support.collector_world import World
from tests.support.raw_requests import ValidRequest

EVENT = {"event_id": "e", "user_id": "u", "type": "view", "ts": 1_700_000_000_000, "item_id": "i"}
CALL = {"type": "track", "event": "Product Viewed", "userId": "u", "properties": {"product_id": "p"}}
VALID = [
    ValidRequest("POST", "/v1/events", json.dumps([EVENT] * 3).encode()),
    ValidRequest("POST", "/v1/events", json.dumps(EVENT).encode(), {"Content-Type": "application/x-ndjson"}),
    ValidRequest("POST", "/v1/batch", json.dumps({"batch": [CALL], "writeKey": "k"}).encode()),
    ValidRequest("POST", "/v1/track", json.dumps(CALL).encode()),
    ValidRequest("POST", "/mp/collect?api_secret=k", json.dumps({"events": [{"name": "login"}]}).encode()),
    ValidRequest("GET", "/tracker.js"),
]


def test_no_bytes_are_a_defect_and_the_collector_answers_afterwards(caplog: pytest.LogCaptureFixture) -> None:
    world = World(limits=CollectorLimits(body_bytes=200_000, event_bytes=32_768, events=100), max_requests=100)
    statuses = attack(world.app, world.metrics.loop, world.admission, VALID, caplog)
    assert {200, 202, 400, 404, 413} <= statuses.keys()
