"""The routes of merchandisers' rules."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus

from kafka.errors import KafkaError
from starlette.requests import Request
from starlette.responses import Response

from anabranch import messages
from anabranch.errors import AnabranchError, UsageError
from anabranch.http.access import AccessControl
from anabranch.http.admission import Admission
from anabranch.http.messages.serving import PreviewBody, RulesAnswer
from anabranch.http.operations import NoParameters, OperationRoute
from anabranch.http.problems import HttpProblem, unavailable
from anabranch.http.request_body import read_body
from anabranch.http.responses import json_response
from anabranch.messages import InvalidMessage, Rule, RuleChange
from anabranch.rules import require_placements
from consumers.api.answers.queries import Answer, PreviewQuery, Query
from consumers.api.answers.query_queue import QueryQueue
from consumers.api.routes import operations
from consumers.api.routes.route_groups import AddRoute
from consumers.api.routes.turns import Turns
from consumers.replica.replica import Replica

MAX_BODY_BYTES = 262_144
MAX_CHANGES, MAX_PREVIEWS = 8, 8
"""Requests that wait for their turn: a change takes as long as the broker, a preview as long as two slates and more."""
RETRY_AFTER_S = 5
NO_KEY = "api"
"""Who changes a rule, in the history, where no key is needed."""
log = logging.getLogger(__name__)

ChangeRules = Callable[[Mapping[str, Rule | None], str, int], Sequence[RuleChange]]
"""`anabranch.kafka.rule_topic.change_rules` on one cluster: rules by id, who changes them, the time (UTC ms)."""


class RuleEndpoints:
    """Changes rules on the topic, and reads them as this process has them."""

    def __init__(
        self, access: AccessControl, admission: Admission, queue: QueryQueue, replica: Replica, change: ChangeRules
    ) -> None:
        self._access = access
        self._admission = admission
        self._queue = queue
        self._model = replica.model
        self._placements = replica.placements
        self._change = change
        self._changes = Turns(MAX_CHANGES, "changes of rules")
        self._previews = Turns(MAX_PREVIEWS, "previews of rules")

    def routes(self, route: AddRoute) -> Sequence[OperationRoute]:
        """See `RouteGroup`."""
        return [
            route(operations.RULES, self._list),
            route(operations.PREVIEW_RULES, self._preview),
            route(operations.RULE, self._get),
            route(operations.PUT_RULE, self._put),
            route(operations.DELETE_RULE, self._delete),
        ]

    async def _list(self, request: Request, parameters: NoParameters) -> Response:
        rules = self._rules()
        now_ms = _now_ms()
        return json_response(
            RulesAnswer(rules=rules, holding=[rule.rule_id for rule in rules if rule.holds_at(now_ms)])
        )

    async def _get(self, request: Request, parameters: NoParameters) -> Response:
        rule_id = request.path_params["rule_id"]
        rule = next((rule for rule in self._rules() if rule.rule_id == rule_id), None)
        if rule is None:
            raise _no_rule(rule_id)
        return json_response(rule)

    async def _put(self, request: Request, parameters: NoParameters) -> Response:
        rule = _rule(await self._body(request), request.path_params["rule_id"])
        self._require_placements([rule])
        await self._changed({rule.rule_id: rule}, request)
        return json_response(rule)

    async def _delete(self, request: Request, parameters: NoParameters) -> Response:
        rule_id = request.path_params["rule_id"]
        if not await self._changed({rule_id: None}, request):
            raise _no_rule(rule_id)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def _preview(self, request: Request, body: PreviewBody) -> Response:
        self._require_placements(body.rules)
        async with self._previews.take():
            return json_response(await self._ask(PreviewQuery(body.user_id, body.rules)))

    async def _changed(self, new: Mapping[str, Rule | None], request: Request) -> Sequence[RuleChange]:
        """Change rules; what changed, once the broker has acknowledged it. Raises `HttpProblem` (503) otherwise."""
        by = self._access.require(request.headers.get("authorization"), "admin") or NO_KEY
        async with self._changes.take():
            try:
                return await asyncio.to_thread(self._change, new, by, _now_ms())
            except (AnabranchError, KafkaError) as error:
                log.warning("a rule was not changed: %s", error)
                raise unavailable(
                    f"the broker has not acknowledged the change: {error}; send the same request again later",
                    RETRY_AFTER_S,
                ) from error

    def _rules(self) -> list[Rule]:
        """All rules. Raises `HttpProblem` (503) while not all of them were read."""
        if self._model.live is None:
            raise unavailable("rules are read with the first release that goes live here", RETRY_AFTER_S)
        return self._model.rules

    def _require_placements(self, rules: Sequence[Rule]) -> None:
        try:
            require_placements(rules, self._placements)
        except UsageError as error:
            raise HttpProblem(HTTPStatus.BAD_REQUEST, str(error)) from error

    async def _ask(self, query: Query) -> Answer:
        with self._admission.enter():
            return await self._queue.ask(query)

    async def _body(self, request: Request) -> bytes:
        with self._admission.enter() as ticket:
            length = request.headers.get("content-length")
            return await read_body(request.stream(), length, MAX_BODY_BYTES, ticket)


def _rule(body: bytes, rule_id: str) -> Rule:
    """The rule in a body. Raises `HttpProblem` (400), also if it has another id than the path."""
    try:
        rule = messages.rules.decode(body)
    except InvalidMessage as invalid:
        raise HttpProblem(HTTPStatus.BAD_REQUEST, f"the body is no rule: {invalid.reason}") from invalid
    if rule.rule_id != rule_id:
        raise HttpProblem(
            HTTPStatus.BAD_REQUEST,
            f"the path has the id {rule_id!r} and the body the rule_id {rule.rule_id!r}: give both the same",
        )
    return rule


def _no_rule(rule_id: str) -> HttpProblem:
    return HttpProblem(HTTPStatus.NOT_FOUND, f"there is no rule {rule_id!r}; GET /v1/rules lists them")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
