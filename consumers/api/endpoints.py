"""The routes of the API."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from itertools import chain

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from anabranch.http.access import AccessControl
from anabranch.http.admission import Admission
from anabranch.http.api_keys import Scope
from anabranch.http.request_body import read_body
from anabranch.http.responses import answered, json_response
from anabranch.placements import Placement
from consumers.api.metrics import ApiMetrics
from consumers.api.parameters import (
    ConditionParameters,
    Parameters,
    RankBody,
    SlateBody,
    SlateParameters,
    from_body,
    from_query_string,
    placement_named,
    require_explainable,
    require_within,
)
from consumers.api.queries import (
    BoughtTogetherQuery,
    ItemsAnswer,
    Query,
    RankQuery,
    SimilarQuery,
    SlateQuery,
    TrendingQuery,
    UserQuery,
)
from consumers.api.query_queue import QueryQueue
from consumers.api.ranking_ids import RankingIds
from consumers.api.route_groups import RouteGroup
from consumers.api.turns import Turns

MAX_BODY_BYTES = 262_144
MAX_EXPLAINING = 8
"""Requests for reasons, at most: with them, others wait for less than a second."""


class Endpoints:
    """Reads requests, asks, and writes answers. Each answer is counted by its endpoint and status."""

    def __init__(
        self,
        access: AccessControl,
        admission: Admission,
        queue: QueryQueue,
        placements: tuple[Placement, ...],
        freshness_ms: Callable[[], int],
        metrics: ApiMetrics,
    ) -> None:
        """`freshness_ms`: by how much the user states are behind the log."""
        self._access = access
        self._admission = admission
        self._queue = queue
        self._placements = tuple(placement.name for placement in placements)
        self._freshness_ms = freshness_ms
        self._metrics = metrics
        self._ranking_ids = RankingIds()
        self._explanations = Turns(MAX_EXPLAINING, "requests with `explain`")

    def routes(self, groups: Sequence[RouteGroup] = ()) -> list[Route]:
        """Those of rankings and users, and those of the groups.

        Longer paths first: the id of a user or of an item may have slashes.
        """
        users, items = "/v1/users/{user_id:path}", "/v1/items/{item_id:path}"
        return [
            self._route(f"{users}/recommendations", "GET", self._recommendations),
            self._route("/v1/recommendations", "POST", self._recommendations_after_events),
            self._route("/v1/rank", "POST", self._rank),
            self._route(f"{items}/similar", "GET", self._similar),
            self._route(f"{items}/bought-together", "GET", self._bought_together),
            self._route("/v1/trending", "GET", self._trending),
            self._route(users, "GET", self._user, scope="admin"),
            *chain.from_iterable(group.routes(self._route) for group in groups),
        ]

    def _route(
        self, path: str, method: str, respond: Callable[[Request], Awaitable[Response]], scope: Scope = "rankings:read"
    ) -> Route:
        endpoint = path.replace(":path", "")
        self._metrics.add_endpoint(endpoint)

        async def answer(request: Request) -> Response:
            started_at_s = time.perf_counter()

            def count(status: HTTPStatus) -> None:
                self._metrics.answered(endpoint, status, time.perf_counter() - started_at_s)

            return await answered(allowed(request), count)

        async def allowed(request: Request) -> Response:
            self._access.require(request.headers.get("authorization"), scope)
            return await respond(request)

        return Route(path, answer, methods=[method])

    async def _recommendations(self, request: Request) -> Response:
        parameters = from_query_string(request.query_params.multi_items(), SlateParameters)
        require_within(parameters.limit, parameters.offset)
        user_id, placement = request.path_params["user_id"], self._placement(parameters.placement)
        query = SlateQuery(user_id, placement, parameters.limit, parameters.offset, parameters.conditions)
        if parameters.explain:
            return await self._explained(request, query, user_id=user_id, placement=placement)
        return await self._items(request, query, user_id=user_id, placement=placement)

    async def _recommendations_after_events(self, request: Request) -> Response:
        body = await self._body(request, SlateBody)
        require_within(body.limit, body.offset)
        placement = self._placement(body.placement)
        query = SlateQuery(body.user_id, placement, body.limit, body.offset, body.conditions, body.events)
        if body.explain:
            return await self._explained(request, query, user_id=body.user_id, placement=placement)
        return await self._items(request, query, user_id=body.user_id, placement=placement)

    async def _explained(self, request: Request, query: SlateQuery, **named: str | None) -> Response:
        """The answer with reasons, of one request after the other: meanwhile no other query is answered."""
        require_explainable(query.limit)
        async with self._explanations.take():
            return await self._items(request, replace(query, explain=True), **named)

    async def _rank(self, request: Request) -> Response:
        body = await self._body(request, RankBody)
        return await self._items(request, RankQuery(body.user_id, body.items, body.events), user_id=body.user_id)

    async def _similar(self, request: Request) -> Response:
        parameters = from_query_string(request.query_params.multi_items(), ConditionParameters)
        item_id = request.path_params["item_id"]
        return await self._items(
            request, SimilarQuery(item_id, parameters.limit, parameters.conditions), item_id=item_id
        )

    async def _bought_together(self, request: Request) -> Response:
        parameters = from_query_string(request.query_params.multi_items(), ConditionParameters)
        item_id = request.path_params["item_id"]
        return await self._items(
            request, BoughtTogetherQuery(item_id, parameters.limit, parameters.conditions), item_id=item_id
        )

    async def _trending(self, request: Request) -> Response:
        parameters = from_query_string(request.query_params.multi_items(), ConditionParameters)
        return await self._items(request, TrendingQuery(parameters.limit, parameters.conditions))

    async def _user(self, request: Request) -> Response:
        answer = await self._ask(UserQuery(request.path_params["user_id"]))
        return json_response(answer)

    async def _items(self, request: Request, query: Query, **named: str | None) -> Response:
        """The answer as JSON, with what the request `named`."""
        answer = await self._ask(query)
        assert isinstance(answer, ItemsAnswer)
        fields = answer_fields(self._ranking_ids.next(query, answer), answer, self._freshness_ms(), named)
        return json_response(fields)

    async def _ask(self, query: Query) -> object:
        ticket = self._admission.enter()
        try:
            return await self._queue.ask(query)
        finally:
            ticket.release()

    async def _body(self, request: Request, kind: type[Parameters]) -> Parameters:
        ticket = self._admission.enter()
        try:
            length = request.headers.get("content-length")
            return from_body(await read_body(request.stream(), length, MAX_BODY_BYTES, ticket), kind)
        finally:
            ticket.release()

    def _placement(self, name: str | None) -> str:
        return placement_named(name, self._placements)


def answer_fields(
    ranking_id: str, answer: ItemsAnswer, freshness_ms: int, named: Mapping[str, str | None]
) -> dict[str, object]:
    """The fields of an answer with items, with what the request `named`."""
    return {
        "ranking_id": ranking_id,
        **named,
        "is_known": answer.is_known,
        "as_of": answer.as_of,
        "release": answer.release,
        "freshness_ms": freshness_ms,
        "items": answer.items,
    }
