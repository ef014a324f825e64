"""The ASGI application of the API on a replica in memory, called without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, MutableMapping
from typing import Any

import httpx2
import msgspec

from anabranch.http.access import AccessControl
from anabranch.http.admission import Admission
from anabranch.http.key_file import KeyFile
from anabranch.http.problems import MEDIA_TYPE
from anabranch.kafka.rule_topic import differences
from anabranch.messages import Rule, RuleChange
from anabranch.ranking.rules.rule_book import numbered
from consumers.api.answers.query_queue import QueryQueue, resolve
from consumers.api.routes.app import create_app
from consumers.api.routes.endpoints import MAX_BODY_BYTES, Endpoints
from consumers.api.routes.release_endpoints import ReleaseEndpoints
from consumers.api.routes.release_list import ReleaseList
from consumers.api.routes.route_groups import RouteGroup
from consumers.api.routes.rule_endpoints import RuleEndpoints
from consumers.api.routes.slate_streams import SlateStreams
from consumers.api.routes.stream_endpoints import StreamEndpoints
from consumers.releases.updates import RuleUpdate
from tests.support.replica_world import ReplicaProcess

ORIGIN = "https://shop.example"


class InMemoryRules:
    """The topics of rules: what is changed there reaches the replica."""

    def __init__(self, replica: ReplicaProcess) -> None:
        self._replica = replica
        self._rules: dict[str, Rule] = {}
        self.history: list[RuleChange] = []
        self.failure: Exception | None = None

    def change(self, new: Mapping[str, Rule | None], by: str, now_ms: int) -> list[RuleChange]:
        if self.failure is not None:
            raise self.failure
        changes = differences(self._rules, new, by, now_ms)
        for rule_id, rule in new.items():
            if rule is None:
                self._rules.pop(rule_id, None)
            else:
                self._rules[rule_id] = rule
            entry = None if rule is None else numbered(rule, self._replica.store.items)
            self._replica.releases.updates.append(RuleUpdate(rule_id, entry))
        self.history += changes
        return changes


class Api:
    """The application, and the turns that the replica's thread would make."""

    def __init__(
        self, replica: ReplicaProcess, keys: KeyFile | None = None, max_requests: int = 10, max_streams: int = 10
    ) -> None:
        self.replica = replica
        self.rules = InMemoryRules(replica)
        self.queue = QueryQueue(self._wake)
        self.admission = Admission(max_requests, max_requests * MAX_BODY_BYTES)
        self.answers = True
        access = AccessControl(keys)
        endpoints = Endpoints(
            access,
            self.admission,
            self.queue,
            replica.settings.placements,
            replica.replica.freshness_ms,
            replica.metrics,
        )
        self.streams = SlateStreams(self.queue, replica.replica.changes, max_streams, replica.metrics)
        groups: list[RouteGroup] = [
            StreamEndpoints(access, self.streams, replica.replica),
            ReleaseEndpoints(self.admission, ReleaseList(replica.replica, replica.settings.releases_dir)),
            RuleEndpoints(access, self.admission, self.queue, replica.replica, self.rules.change),
        ]
        self.app = create_app(endpoints, replica.metrics.loop, [ORIGIN], groups)

    def request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        async def send() -> httpx2.Response:
            transport = httpx2.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx2.AsyncClient(transport=transport, base_url="http://api") as client:
                return await client.request(method, path, **options)

        return asyncio.run(send())

    def get(self, path: str, **options: Any) -> httpx2.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, body: object) -> httpx2.Response:
        return self.request("POST", path, json=body)

    async def turn(self) -> None:
        """What the replica's thread does when something has happened, and all that follows from it."""
        self.replica.settle()
        self.streams.notify(self.replica.replica.changes.take())
        await settled()

    def _wake(self) -> None:
        if self.answers:
            asyncio.get_running_loop().call_soon(self._answer)

    def _answer(self) -> None:
        waiting = self.queue.take(64)
        resolve(waiting, self.replica.answering.answer([of_client.query for of_client in waiting]))


async def settled() -> None:
    """Let the event loop do all that is ready to be done."""
    for _ in range(50):
        await asyncio.sleep(0)


class StreamClient:
    """Reads a stream, as much of it as it is allowed to."""

    def __init__(self, api: Api, path: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> None:
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.chunks: list[str] = []
        self.may_read = asyncio.Event()
        self.may_read.set()
        self._is_sent = False
        self._has_gone = asyncio.Event()
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
            "server": ("api", 80),
            "client": ("client", 1),
        }
        self.task = asyncio.create_task(api.app(scope, self._receive, self._send))

    @property
    def slates(self) -> list[Any]:
        """The slates that were sent so far."""
        events = [event for event in "".join(self.chunks).split("\n\n") if "event: slate" in event]
        return [msgspec.json.decode(event.partition("data: ")[2]) for event in events]

    async def leave(self) -> None:
        """Close the connection."""
        self._has_gone.set()
        await self.task

    async def _receive(self) -> dict[str, Any]:
        if not self._is_sent:
            self._is_sent = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._has_gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        await self.may_read.wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.chunks.append(message.get("body", b"").decode())


def assert_is_problem(answer: httpx2.Response, status: int, *words: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == MEDIA_TYPE
    problem = answer.json()
    assert problem["status"] == status
    for word in words:
        assert word in problem["detail"], problem["detail"]
