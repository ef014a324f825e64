"""The ASGI application of the API on a replica in memory, called without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx2

from anabranch.http.access import AccessControl
from anabranch.http.admission import Admission
from anabranch.http.key_file import KeyFile
from anabranch.http.problems import MEDIA_TYPE
from anabranch.kafka.rule_topic import differences
from anabranch.messages import Rule, RuleChange
from anabranch.ranking.rules.rule_book import numbered
from consumers.api.app import create_app
from consumers.api.endpoints import MAX_BODY_BYTES, Endpoints
from consumers.api.query_queue import QueryQueue, resolve
from consumers.api.release_endpoints import ReleaseEndpoints
from consumers.api.release_list import ReleaseList
from consumers.api.route_groups import RouteGroup
from consumers.api.rule_endpoints import RuleEndpoints
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

    def __init__(self, replica: ReplicaProcess, keys: KeyFile | None = None, max_requests: int = 10) -> None:
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
        groups: list[RouteGroup] = [
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

    def _wake(self) -> None:
        if self.answers:
            asyncio.get_running_loop().call_soon(self._answer)

    def _answer(self) -> None:
        waiting = self.queue.take(64)
        resolve(waiting, self.replica.answering.answer([of_client.query for of_client in waiting]))


def assert_is_problem(answer: httpx2.Response, status: int, *words: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == MEDIA_TYPE
    problem = answer.json()
    assert problem["status"] == status
    for word in words:
        assert word in problem["detail"], problem["detail"]
