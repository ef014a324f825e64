"""`GET /v1/stream/users/{id}`: the slate of now, and every new one, as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pytest

from anabranch.http import api_keys, key_file
from anabranch.http.key_file import CHECK_INTERVAL_S, KeyFile
from anabranch.http.problems import unavailable
from anabranch.messages import Event, Rule
from anabranch.placements import DISCOVER, FOR_YOU
from anabranch.ranking.rules.rule_book import numbered
from consumers.api.routes import stream_endpoints
from consumers.releases.updates import RuleUpdate
from tests.support.ranker_world import CATALOGUE, RankerWorld, purchases
from tests.support.replica_world import ReplicaProcess
from tests.support.serving_api import ORIGIN, Api, StreamClient, assert_is_problem, settled

PATH = "/v1/stream/users/u1?limit=5"
LAST_TS = 1_000_000 + 60_000 * 40


@pytest.fixture
def replica(world: RankerWorld) -> ReplicaProcess:
    world.settings["placements"] = (FOR_YOU, DISCOVER)
    world.rank(*purchases(40))
    replica = ReplicaProcess(world)
    replica.settle()
    return replica


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """A test on an event loop of its own."""
    asyncio.run(test())


def view(number: int, user_id: str = "u1") -> Event:
    return Event(
        event_id=f"view {number} {user_id}",
        user_id=user_id,
        type="view",
        ts=LAST_TS + 60_000 * number,
        item_id=CATALOGUE[number],
    )


async def opened(api: Api, path: str = PATH, **options: Any) -> StreamClient:
    client = StreamClient(api, path, **options)
    await settled()
    return client


def ids(slate: Any) -> list[str]:
    return [item["item_id"] for item in slate["items"]]


def test_the_slate_of_now_comes_at_once_and_is_the_one_that_is_answered_on_request(replica: ReplicaProcess) -> None:
    async def test() -> None:
        api = Api(replica)
        client = await opened(api, f"{PATH}&placement=discover")
        assert client.status == 200
        assert client.headers["content-type"].startswith("text/event-stream")
        assert client.headers["cache-control"] == "no-store"
        [slate] = client.slates
        assert (slate["user_id"], slate["placement"], slate["release"]) == ("u1", "discover", "r1")
        assert client.chunks == [
            f"retry: 3000\n\nid: {slate['ranking_id']}\nevent: slate\ndata: {msgspec.json.encode(slate).decode()}\n\n"
        ]
        await client.leave()

    run(test)
    answer = Api(replica).get("/v1/users/u1/recommendations", params={"limit": "5", "placement": "discover"}).json()

    async def same() -> None:
        client = await opened(Api(replica), f"{PATH}&placement=discover")
        [slate] = client.slates
        assert slate | {"ranking_id": ""} == answer | {"ranking_id": ""}
        await client.leave()

    run(same)


def test_an_event_of_the_user_brings_a_new_slate_and_one_of_another_user_nothing(
    world: RankerWorld, replica: ReplicaProcess
) -> None:
    async def test() -> None:
        api = Api(replica)
        client = await opened(api)
        world.send(view(1, "u2"))
        await api.turn()
        assert len(client.slates) == 1
        world.send(view(1))
        await api.turn()
        first, second = client.slates
        assert second["as_of"] == view(1).ts > first["as_of"]
        assert second["ranking_id"] != first["ranking_id"]
        world.send(view(1))  # a duplicate
        await api.turn()
        assert len(client.slates) == 2
        await client.leave()

    run(test)


def test_while_nothing_happens_nothing_is_ranked(world: RankerWorld, replica: ReplicaProcess) -> None:
    async def test() -> None:
        api = Api(replica)
        client = await opened(api)
        ranked: list[object] = []
        api.queue.ask = lambda query: ranked.append(query)  # type: ignore[assignment, method-assign, return-value]
        world.send(view(1, "u2"), view(2, "u3"))
        for _ in range(3):
            await api.turn()
        assert ranked == []
        await client.leave()

    run(test)


def test_a_rule_and_a_release_bring_a_new_slate_only_if_it_differs(replica: ReplicaProcess) -> None:
    def put(rule_id: str, **fields: object) -> None:
        rule = msgspec.convert({"rule_id": rule_id, **fields}, Rule)
        replica.releases.updates.append(RuleUpdate(rule_id, numbered(rule, replica.store.items)))

    async def test() -> None:
        api = Api(replica)
        client = await opened(api)
        shown = ids(client.slates[0])
        put("elsewhere", action="hide", items=["in no catalogue"])
        await api.turn()
        assert len(client.slates) == 1
        put("hide", action="hide", items=[shown[0]])
        await api.turn()
        assert shown[0] not in ids(client.slates[1])
        replica.go_live("r2")
        await api.turn()
        assert client.slates[-1]["release"] == "r2"
        assert len(client.slates) == 3
        await client.leave()

    run(test)


def test_a_client_that_reads_slowly_gets_the_newest_slate_alone(world: RankerWorld, replica: ReplicaProcess) -> None:
    async def test() -> None:
        api = Api(replica)
        client = await opened(api)
        client.may_read.clear()
        for number in range(1, 6):
            world.send(view(number))
            await api.turn()
        client.may_read.set()
        await settled()
        assert [slate["as_of"] for slate in client.slates[1:]] == [view(1).ts, view(5).ts], (
            "the one that was being sent, and the newest"
        )
        await client.leave()

    run(test)


def test_a_client_that_reads_nothing_loses_its_stream(
    world: RankerWorld, replica: ReplicaProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        api = Api(replica)
        client = await opened(api)
        monkeypatch.setattr(stream_endpoints, "SEND_TIMEOUT_S", 0.01)
        client.may_read.clear()
        world.send(view(1))
        await api.turn()
        await client.task
        assert replica.metric("serve_streams") == 0

    run(test)


def test_comments_are_sent_while_nothing_else_is(replica: ReplicaProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_endpoints, "HEARTBEAT_S", 0.001)

    async def test() -> None:
        client = await opened(Api(replica))
        while len(client.chunks) < 4:
            await asyncio.sleep(0.001)
        assert set(client.chunks[1:]) == {":\n\n"}
        await client.leave()

    run(test)


def test_comments_are_sent_while_the_slate_cannot_be_ranked_and_then_the_slate_is(
    world: RankerWorld, replica: ReplicaProcess
) -> None:
    async def restoring(query: object) -> NoReturn:
        raise unavailable("restoring user states", 0)

    async def test() -> None:
        api = Api(replica)
        client = await opened(api)
        ask, api.queue.ask = api.queue.ask, restoring  # type: ignore[method-assign]
        world.send(view(1))
        await api.turn()
        while len(client.chunks) < 4:
            await asyncio.sleep(0.001)
        assert set(client.chunks[1:]) == {":\n\n"}
        api.queue.ask = ask  # type: ignore[method-assign]
        while len(client.slates) < 2:
            await asyncio.sleep(0.001)
        assert client.slates[1]["as_of"] == view(1).ts
        await client.leave()

    run(test)


def test_too_many_streams_are_refused_until_one_ends(replica: ReplicaProcess) -> None:
    async def test() -> None:
        api = Api(replica, max_streams=2)
        clients = [await opened(api), await opened(api, "/v1/stream/users/u2")]
        assert (replica.metric("serve_streams"), replica.metric("serve_streams_limit")) == (2, 2)
        refused = await opened(api)
        assert refused.status == 503
        assert "serve_streams" in "".join(refused.chunks)
        assert "retry-after" in refused.headers
        await clients[0].leave()
        assert replica.metric("serve_streams") == 1
        another = await opened(api)
        assert another.status == 200
        for client in (clients[1], another):
            await client.leave()
        assert not replica.replica.changes.is_watching

    run(test)


def test_streams_end_with_the_server_and_no_further_one_is_opened(replica: ReplicaProcess) -> None:
    async def test() -> None:
        api = Api(replica)
        client = await opened(api)
        api.streams.end()
        await client.task
        assert client.chunks[-1] == "", "the answer is complete"
        assert (await opened(api)).status == 503

    run(test)


def test_a_stream_goes_on_after_the_states_were_restored_again(world: RankerWorld, replica: ReplicaProcess) -> None:
    async def test() -> None:
        api = Api(replica)
        client = await opened(api)
        world.send(view(1))
        replica.replica._start_again(RuntimeError("the log was replaced"))
        await api.turn()
        assert [slate["as_of"] for slate in client.slates][-1] == view(1).ts
        await client.leave()

    run(test)


def test_a_stream_that_cannot_be_ranked_now_comes_back_to_it(
    world: RankerWorld, replica: ReplicaProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        api = Api(replica)
        client = await opened(api)
        monkeypatch.setattr("consumers.api.answers.answering.RETRY_AFTER_S", 0)
        monkeypatch.setattr(replica.replica, "is_following", False)
        world.send(view(1))
        api.streams.notify({"u1"})
        await settled()
        assert len(client.slates) == 1
        monkeypatch.setattr(replica.replica, "is_following", True)
        await api.turn()
        assert client.slates[-1]["as_of"] == view(1).ts
        await client.leave()

    run(test)


def test_before_the_states_are_restored_a_stream_is_refused(world: RankerWorld) -> None:
    replica = ReplicaProcess(world, release=None)

    async def test() -> None:
        client = await opened(Api(replica))
        assert client.status == 503
        await client.task

    run(test)
    assert replica.metric("serve_streams") == 0


def test_a_stream_needs_a_key_for_as_long_as_it_is_open(
    replica: ReplicaProcess, world: RankerWorld, tmp_path: Path
) -> None:
    path, clock = tmp_path / "keys.json", [0.0]
    secret, reader = api_keys.create("shop", ["rankings:read"])
    _, other = api_keys.create("other", ["rankings:read"])
    key_file.add(path, reader)
    key_file.add(path, other)

    async def test() -> None:
        api = Api(replica, KeyFile(path, lambda: clock[0]))
        assert (await opened(api)).status == 401
        headers = {"Authorization": f"Bearer {secret}", "Origin": ORIGIN}
        client = await opened(api, headers=headers)
        assert client.status == 200
        assert client.headers["access-control-allow-origin"] == ORIGIN
        key_file.remove(path, "shop")
        clock[0] += CHECK_INTERVAL_S
        world.send(view(1))
        await api.turn()
        await client.task
        assert len(client.slates) == 1

    run(test)


def test_a_wrong_parameter_is_named(replica: ReplicaProcess) -> None:
    api = Api(replica)
    assert_is_problem(api.get("/v1/stream/users/u1", params={"placement": "home"}), 400, "'home'", "discover")
    assert_is_problem(api.get("/v1/stream/users/u1", params={"offset": "1"}), 400, "offset", "limit")


def test_the_head_of_a_stream_is_answered_without_opening_one(replica: ReplicaProcess) -> None:
    answer = Api(replica).request("HEAD", "/v1/stream/users/u1")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert replica.metric("serve_streams") == 0
