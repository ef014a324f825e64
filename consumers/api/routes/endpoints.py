"""The routes of the API."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from http import HTTPStatus
from itertools import chain
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from anabranch.http.access import AccessControl
from anabranch.http.admission import Admission
from anabranch.http.messages.serving import (
    ConditionParameters,
    RankAnswer,
    RankBody,
    RelatedItemsAnswer,
    SlateAnswer,
    SlateBody,
    SlateParameters,
    TrendingAnswer,
)
from anabranch.http.operations import Input, NoParameters, Operation, OperationRoute
from anabranch.http.request_body import read_body
from anabranch.http.responses import answered, json_response
from anabranch.placements import Placement
from consumers.api.answers.queries import (
    BoughtTogetherQuery,
    ItemsAnswer,
    Query,
    RankQuery,
    SimilarQuery,
    SlateQuery,
    TrendingQuery,
    UserQuery,
)
from consumers.api.answers.query_queue import QueryQueue
from consumers.api.routes import operations
from consumers.api.routes.metrics import ApiMetrics
from consumers.api.routes.parameters import (
    Parameters,
    from_body,
    from_query_string,
    placement_named,
    require_explainable,
    require_identifiers,
    require_within,
)
from consumers.api.routes.ranking_ids import RankingIds
from consumers.api.routes.route_groups import RouteGroup
from consumers.api.routes.turns import Turns

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

    def routes(self, groups: Sequence[RouteGroup] = ()) -> list[OperationRoute]:
        """Those of rankings and users, and those of the groups.

        Longer paths first: the id of a user or of an item may have slashes.
        """
        return [
            self._route(operations.RECOMMENDATIONS, self._recommendations),
            self._route(operations.RECOMMENDATIONS_AFTER_EVENTS, self._recommendations_after_events),
            self._route(operations.RANK, self._rank),
            self._route(operations.SIMILAR, self._similar),
            self._route(operations.BOUGHT_TOGETHER, self._bought_together),
            self._route(operations.TRENDING, self._trending),
            self._route(operations.USER, self._user),
            *chain.from_iterable(group.routes(self._route) for group in groups),
        ]

    def _route(
        self, operation: Operation[Input], respond: Callable[[Request, Input], Awaitable[Response]]
    ) -> OperationRoute:
        """`respond` gets what the operation says that a request has: its parameters, or its body."""
        endpoint = operation.template
        query, body, scope = operation.query, operation.body, operation.scope
        self._metrics.add_endpoint(endpoint)

        async def read(request: Request) -> Input:
            require_identifiers(request.path_params)
            if body is not None:
                return await self._body(request, body)
            assert query is not None
            return from_query_string(request.query_params.multi_items(), query)

        async def answer(request: Request) -> Response:
            started_at_s = time.perf_counter()

            def count(status: HTTPStatus) -> None:
                self._metrics.answered(endpoint, status, time.perf_counter() - started_at_s)

            return await answered(allowed(request), count)

        async def allowed(request: Request) -> Response:
            if scope is not None:
                self._access.require(request.headers.get("authorization"), scope)
            return await respond(request, await read(request))

        return OperationRoute(operation, answer)

    async def _recommendations(self, request: Request, parameters: SlateParameters) -> Response:
        require_within(parameters.limit, parameters.offset)
        user_id, placement = request.path_params["user_id"], self._placement(parameters.placement)
        query = SlateQuery(user_id, placement, parameters.limit, parameters.offset, parameters.conditions)
        return json_response(
            SlateAnswer(**await self._slate(query, parameters.explain), user_id=user_id, placement=placement)
        )

    async def _recommendations_after_events(self, request: Request, body: SlateBody) -> Response:
        require_within(body.limit, body.offset)
        placement = self._placement(body.placement)
        query = SlateQuery(body.user_id, placement, body.limit, body.offset, body.conditions, body.events)
        return json_response(
            SlateAnswer(**await self._slate(query, body.explain), user_id=body.user_id, placement=placement)
        )

    async def _rank(self, request: Request, body: RankBody) -> Response:
        query = RankQuery(body.user_id, body.items, body.events)
        return json_response(RankAnswer(**await self._items(query), user_id=body.user_id))

    async def _similar(self, request: Request, parameters: ConditionParameters) -> Response:
        item_id = request.path_params["item_id"]
        query = SimilarQuery(item_id, parameters.limit, parameters.conditions)
        return json_response(RelatedItemsAnswer(**await self._items(query), item_id=item_id))

    async def _bought_together(self, request: Request, parameters: ConditionParameters) -> Response:
        item_id = request.path_params["item_id"]
        query = BoughtTogetherQuery(item_id, parameters.limit, parameters.conditions)
        return json_response(RelatedItemsAnswer(**await self._items(query), item_id=item_id))

    async def _trending(self, request: Request, parameters: ConditionParameters) -> Response:
        query = TrendingQuery(parameters.limit, parameters.conditions)
        return json_response(TrendingAnswer(**await self._items(query)))

    async def _user(self, request: Request, parameters: NoParameters) -> Response:
        return json_response(await self._ask(UserQuery(request.path_params["user_id"])))

    async def _slate(self, query: SlateQuery, explain: bool) -> dict[str, Any]:
        """As `_items`. With reasons, of one request after the other: meanwhile no other query is answered."""
        if not explain:
            return await self._items(query)
        require_explainable(query.limit)
        async with self._explanations.take():
            return await self._items(replace(query, explain=True))

    async def _items(self, query: Query) -> dict[str, Any]:
        """What every answer with items has: the fields of `RankedItems`."""
        answer = await self._ask(query)
        assert isinstance(answer, ItemsAnswer)
        return answer_fields(self._ranking_ids.next(query, answer), answer, self._freshness_ms())

    async def _ask(self, query: Query) -> object:
        with self._admission.enter():
            return await self._queue.ask(query)

    async def _body(self, request: Request, kind: type[Parameters]) -> Parameters:
        with self._admission.enter() as ticket:
            length = request.headers.get("content-length")
            return from_body(await read_body(request.stream(), length, MAX_BODY_BYTES, ticket), kind)

    def _placement(self, name: str | None) -> str:
        return placement_named(name, self._placements)


def answer_fields(ranking_id: str, answer: ItemsAnswer, freshness_ms: int) -> dict[str, Any]:
    """The fields of `RankedItems`."""
    return {
        "ranking_id": ranking_id,
        "is_known": answer.is_known,
        "as_of": answer.as_of,
        "release": answer.release,
        "freshness_ms": freshness_ms,
        "items": answer.items,
    }
