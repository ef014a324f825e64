"""The API's ASGI application on a replica in memory."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx2

from anabranch.http.access import AccessControl
from anabranch.http.admission import Admission
from anabranch.http.key_file import KeyFile
from anabranch.http.serving_messages import ItemConditions, RecentEvent
from consumers.api.app import create_app
from consumers.api.endpoints import MAX_BODY_BYTES, Endpoints
from consumers.api.queries import (
    BoughtTogetherQuery,
    RankQuery,
    SimilarQuery,
    SlateQuery,
    TrendingQuery,
    UserQuery,
)
from consumers.api.query_queue import QueryQueue, resolve
from tests.support.ranker_world import CATALOGUE, RankerWorld, purchases
from tests.support.replica_world import ReplicaProcess

ORIGIN = "https://shop.example"


def warm_replica(folder: Path) -> ReplicaProcess:
    """A replica that knows some users, and whose loops are compiled: that takes longer than a client waits."""
    world = RankerWorld(folder)
    world.rank(*purchases(40))
    replica = ReplicaProcess(world)
    replica.settle()
    events, few = (RecentEvent(item_id=CATALOGUE[4]),), ItemConditions(exclude=(CATALOGUE[5],))
    replica.answers(
        [
            SlateQuery("u1", "for_you", 5),
            SlateQuery("nobody", "for_you", 5, conditions=few),
            SlateQuery(None, "for_you", 5, events=events),
            RankQuery("u1", tuple(CATALOGUE[:3]), events),
            SimilarQuery(CATALOGUE[0], 5, few),
            BoughtTogetherQuery(CATALOGUE[0], 5, few),
            TrendingQuery(5, few),
            UserQuery("u1"),
        ]
    )
    return replica


class Api:
    """The application, and the turns that the replica's thread would make."""

    def __init__(self, replica: ReplicaProcess, keys: KeyFile | None = None, max_requests: int = 10) -> None:
        self.replica = replica
        self.queue = QueryQueue(self._wake)
        self.admission = Admission(max_requests, max_requests * MAX_BODY_BYTES)
        self.answers = True
        endpoints = Endpoints(
            AccessControl(keys),
            self.admission,
            self.queue,
            replica.settings.placements,
            replica.replica.freshness_ms,
            replica.metrics,
        )
        self.app = create_app(endpoints, replica.metrics.loop, [ORIGIN])

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
