"""`anabranch serve` on a real broker, beside a ranker: what it answers is what the ranker publishes."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
import pytest

from anabranch.http import key_file
from anabranch.http.api_keys import create
from anabranch.kafka.rule_topic import read_changes, read_rules
from anabranch.kafka.topics import Topics
from anabranch.messages import Rule
from anabranch.settings import Settings
from tests.kafka.world import ITEMS, Process, Scrape, World, await_true, purchases

ANY_PORT = ("--port", "0", "--metrics-port", "0")
READY = "requests are answered at "


@pytest.fixture
def world(settings: Settings, topics: Topics) -> World:
    return World(settings)


class Client:
    """A shop's server."""

    def __init__(self, process: Process, key: str | None = None) -> None:
        url = urlsplit(process.await_log(READY).split(READY)[1])
        assert url.hostname == "127.0.0.1" and url.port is not None
        self._address = (url.hostname, url.port)
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}

    def get(self, path: str) -> tuple[int, Any]:
        return self._call("GET", path)

    def post(self, path: str, body: object) -> tuple[int, Any]:
        return self._call("POST", path, json.dumps(body))

    def put(self, path: str, body: object) -> tuple[int, Any]:
        return self._call("PUT", path, json.dumps(body))

    def delete(self, path: str) -> tuple[int, Any]:
        return self._call("DELETE", path)

    def slate(self, user_id: str) -> list[str]:
        status, answer = self.get(f"/v1/users/{quote(user_id, safe='')}/recommendations")
        return [item["item_id"] for item in answer["items"]] if status == 200 else []

    @contextmanager
    def stream(self, user_id: str) -> Iterator[Iterator[dict[str, Any]]]:
        """The slates of a stream, as they come."""
        with closing(http.client.HTTPConnection(*self._address, timeout=60)) as connection:
            connection.request("GET", f"/v1/stream/users/{user_id}", headers=self._headers)
            answer = connection.getresponse()
            assert answer.status == 200
            yield (json.loads(line[len(b"data: ") :]) for line in answer if line.startswith(b"data: "))

    def is_ready(self) -> bool:
        return self.get("/readyz")[0] == 200

    def _call(self, method: str, path: str, body: str | None = None) -> tuple[int, Any]:
        with closing(http.client.HTTPConnection(*self._address, timeout=60)) as connection:
            connection.request(method, path, body, self._headers | {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
            is_json = "json" in answer.headers.get("Content-Type", "")
            return answer.status, json.loads(content) if is_json else content.decode()


def published_slates(world: World) -> dict[str, list[str]]:
    """The newest slate of each user."""
    return {ranking.user_id: [item.item_id for item in ranking.slate] for ranking in world.rankings()}


def test_answers_are_the_rankings_of_the_stream_and_follow_it(world: World) -> None:
    world.go_live("r1")
    with ExitStack() as stack:
        ranker = stack.enter_context(Process(world.settings, "rank", "--start", "earliest"))
        world.publish(purchases(20))
        world.await_rankings(20)
        server = stack.enter_context(Process(world.settings, "serve", *ANY_PORT))
        client = Client(server)
        await_true(client.is_ready, "the server to be ready")
        await_true(lambda: client.slate("u1") == published_slates(world)["u1"], "the same slate")
        world.publish(purchases(10, first=20))
        world.await_rankings(30)
        for user_id, slate in published_slates(world).items():
            await_true(lambda user_id=user_id, slate=slate: client.slate(user_id) == slate, f"the slate of {user_id}")
        status, answer = client.get("/v1/users/u1/recommendations?limit=2")
        assert (status, answer["release"], answer["is_known"], len(answer["items"])) == (200, "r1", True, 2)
        assert client.get("/v1/users/nobody/recommendations")[0] == 200
        assert client.post("/v1/rank", {"user_id": "u1", "items": ITEMS})[0] == 200
        metrics = Scrape.of(server)
        assert 10 <= metrics.value("anabranch_events_applied_total") <= 30, "all but those in saved states"
        endpoint = "/v1/users/{user_id}/recommendations"
        assert metrics.value("anabranch_serve_requests_total", endpoint=endpoint, status="200") > 0
        assert ranker.terminate() == 0
        assert server.terminate() == 0


def test_a_server_that_starts_later_has_what_was_saved_and_what_came_after(world: World) -> None:
    world.go_live("r1")
    with Process(world.settings, "rank", "--start", "earliest") as ranker:
        world.publish(purchases(20))
        world.await_rankings(20)
        assert ranker.terminate() == 0  # saves its states
    world.publish(purchases(4, first=20))
    with Process(msgspec.structs.replace(world.settings, ready_max_lag=0), "serve", *ANY_PORT) as server:
        client = Client(server)
        await_true(client.is_ready, "the server to be ready, with every event applied")
        answers = {user_id: client.slate(user_id) for user_id in published_slates(world)}
    with Process(world.settings, "rank"):
        world.await_rankings(24)
    assert answers == published_slates(world)


def test_a_stream_has_the_slate_of_now_and_one_after_each_event_until_the_server_ends(world: World) -> None:
    world.go_live("r1")
    with Process(world.settings, "serve", *ANY_PORT) as server:
        client = Client(server)
        await_true(client.is_ready, "the server to be ready")
        with client.stream("u1") as slates:
            assert next(slates)["is_known"] is False
            [event] = [event for event in purchases(5) if event.user_id == "u1"]
            world.publish([event])
            assert next(slates)["as_of"] == event.ts
            assert server.terminate() == 0
            assert list(slates) == [], "the stream is complete"


def test_a_rule_that_is_put_over_http_is_on_the_topics_and_moves_the_slates_of_the_stream(world: World) -> None:
    world.go_live("r1")
    rule = {"rule_id": "front", "action": "pin", "items": [ITEMS[50]], "position": 1}
    with ExitStack() as stack:
        stack.enter_context(Process(world.settings, "rank", "--start", "earliest"))
        client = Client(stack.enter_context(Process(world.settings, "serve", *ANY_PORT)))
        await_true(client.is_ready, "the server to be ready")
        assert client.put("/v1/rules/front", rule) == (200, rule)
        assert read_rules(world.settings) == {"front": msgspec.convert(rule, Rule)}, "acknowledged by the broker"
        await_true(lambda: client.get("/v1/rules/front") == (200, rule), "the rule in the server")
        published = 0

        def newest_ranking_starts_with_it() -> bool:
            nonlocal published
            world.publish(purchases(1, first=published))
            published += 1
            return world.await_rankings(published)[-1].slate[0].item_id == ITEMS[50]

        await_true(newest_ranking_starts_with_it, "a ranking with the pinned item first")
        await_true(lambda: client.slate("u1")[:1] == [ITEMS[50]], "a slate with it first")
        assert client.delete("/v1/rules/front") == (204, "")
        assert read_rules(world.settings) == {}
        assert client.delete("/v1/rules/front")[0] == 404
        await_true(lambda: client.slate("u1")[0] != ITEMS[50], "a slate without it")
    changes = [(change.rule_id, change.by, change.after is None) for change in read_changes(world.settings)]
    assert changes == [("front", "api", False), ("front", "api", True)]


def test_requests_need_a_key_that_may_read_rankings(world: World, tmp_path: Path) -> None:
    world.go_live("r1")
    path = tmp_path / "keys.json"
    secret, reader = create("shop", ["rankings:read"])
    key_file.add(path, reader)
    settings = world.settings
    with Process(settings, "--set", f"api_keys_file={path}", "serve", *ANY_PORT) as server:
        await_true(Client(server).is_ready, "the server to be ready")
        assert Client(server).get("/v1/trending")[0] == 401
        assert Client(server, secret).get("/v1/trending")[0] == 200
        assert Client(server, secret).get("/v1/users/u1")[0] == 403
