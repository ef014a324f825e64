"""The operations of the serving API: what each request has, and how it is answered.

To add one: describe it here, in `OPERATIONS` too, give it a handler in `Endpoints.routes`, and run `anabranch schema`.
"""

from __future__ import annotations

from typing import Any

from anabranch.http.messages.serving import (
    AnsweredItem,
    ConditionParameters,
    KnownEvent,
    PreviewAnswer,
    PreviewBody,
    RankAnswer,
    RankBody,
    RelatedItemsAnswer,
    RulesAnswer,
    SlateAnswer,
    SlateBody,
    SlateParameters,
    StreamedSlate,
    StreamParameters,
    TrendingAnswer,
    UserAnswer,
)
from anabranch.http.openapi import ApiDescription
from anabranch.http.operations import JSON, Answer, NoParameters, Operation
from anabranch.http.responses import COMMON_OPERATIONS
from anabranch.messages import Rule
from consumers.api.routes.release_list import ReleaseListParameters, ReleasesAnswer

API = ApiDescription(
    "serve",
    "Anabranch: ask for recommendations",
    "`anabranch serve` ranks items for users on request, from user states that follow the topic `events`.",
)
OF_QUERY = (400, 401, 403, 503)
OF_BODY = (400, 401, 403, 408, 413, 503)
"""Problems of every request with parameters, and of every one with a body."""
EVENT_STREAM = "text/event-stream"
RULE_EXAMPLE = {"rule_id": "hide-i42", "action": "hide", "items": ["i42"]}
USERS, ITEMS = "/v1/users/{user_id:id}", "/v1/items/{item_id:id}"

_ranked: dict[str, Any] = {
    "ranking_id": "0d2f6c1c35e14a4b8cbb8ad9a3c1f0f2",
    "is_known": True,
    "as_of": 1700000000000,
    "release": "r0002",
    "freshness_ms": 0,
    "items": [AnsweredItem(item_id="i42", score=3.1, source="co_visits"), AnsweredItem(item_id="i7", score=2.8)],
}
_slate = Answer("The slate.", SlateAnswer, example=SlateAnswer(user_id="u1", placement="for_you", **_ranked))
_related = Answer("The items.", RelatedItemsAnswer, example=RelatedItemsAnswer(item_id="i7", **_ranked))

RECOMMENDATIONS = Operation(
    name="recommendations",
    method="GET",
    path=f"{USERS}/recommendations",
    summary="The user's slate of a placement",
    scope="rankings:read",
    query=SlateParameters,
    answers={200: _slate},
    problems=OF_QUERY,
)
RECOMMENDATIONS_AFTER_EVENTS = Operation(
    name="recommendations_after_events",
    method="POST",
    path="/v1/recommendations",
    summary="The slate of a user or a guest after events that only this request knows of",
    scope="rankings:read",
    body=SlateBody,
    example={"limit": 5, "events": [{"type": "view", "item_id": "i42"}, {"type": "cart", "item_id": "i7"}]},
    answers={200: _slate},
    problems=OF_BODY,
)
RANK = Operation(
    name="rank",
    method="POST",
    path="/v1/rank",
    summary="The items that the request names, in the user's order",
    scope="rankings:read",
    body=RankBody,
    example={"user_id": "u1", "items": ["i42", "i7"]},
    answers={200: Answer("The items.", RankAnswer, example=RankAnswer(user_id="u1", **_ranked))},
    problems=OF_BODY,
)
SIMILAR = Operation(
    name="similar",
    method="GET",
    path=f"{ITEMS}/similar",
    summary="The items nearest to an item, by its vector",
    scope="rankings:read",
    query=ConditionParameters,
    answers={200: _related},
    problems=(*OF_QUERY, 404),
)
BOUGHT_TOGETHER = Operation(
    name="bought_together",
    method="GET",
    path=f"{ITEMS}/bought-together",
    summary="The items of the most co-visits with an item",
    scope="rankings:read",
    query=ConditionParameters,
    answers={200: _related},
    problems=(*OF_QUERY, 404),
)
TRENDING = Operation(
    name="trending",
    method="GET",
    path="/v1/trending",
    summary="The items of the most events, newer events counted more",
    scope="rankings:read",
    query=ConditionParameters,
    answers={200: Answer("The items.", TrendingAnswer, example=TrendingAnswer(**_ranked))},
    problems=OF_QUERY,
)
_history = [KnownEvent(item_id="i42", type="view", ts=1700000000000)]
USER = Operation(
    name="user",
    method="GET",
    path=USERS,
    summary="What is known of a user",
    scope="admin",
    query=NoParameters,
    answers={
        200: Answer(
            "All that user states have of the user, but for numbers that only models read.",
            UserAnswer,
            example=UserAnswer(user_id="u1", is_known=True, history=_history, last_event_ts=1700000000000),
        )
    },
    problems=OF_QUERY,
)
STREAM = Operation(
    name="stream",
    method="GET",
    path="/v1/stream/users/{user_id:id}",
    summary="The user's slate of a placement, and every new one",
    scope="rankings:read",
    query=StreamParameters,
    answers={
        200: Answer(
            "Server-sent events without end; the schema is that of one event.",
            StreamedSlate,
            EVENT_STREAM,
        )
    },
    problems=OF_QUERY,
)
RELEASES = Operation(
    name="releases",
    method="GET",
    path="/v1/releases",
    summary="The releases that were announced last",
    scope="admin",
    query=ReleaseListParameters,
    answers={200: Answer("The releases, the newest first.", ReleasesAnswer)},
    problems=OF_QUERY,
)
RULES = Operation(
    name="rules",
    method="GET",
    path="/v1/rules",
    summary="All rules",
    scope="admin",
    query=NoParameters,
    answers={200: Answer("The rules, and which of them hold now.", RulesAnswer)},
    problems=OF_QUERY,
)
PREVIEW_RULES = Operation(
    name="preview_rules",
    method="POST",
    path="/v1/rules/preview",
    summary="A user's slates without and with some rules",
    scope="admin",
    body=PreviewBody,
    example={"user_id": "u1", "rules": [RULE_EXAMPLE]},
    answers={200: Answer("Slates by placement.", PreviewAnswer)},
    problems=OF_BODY,
)
_of_rule: dict[str, Any] = {"path": "/v1/rules/{rule_id:id}", "scope": "admin", "query": NoParameters}
RULE = Operation(
    name="rule",
    method="GET",
    summary="One rule",
    answers={200: Answer("The rule.", Rule, example=RULE_EXAMPLE)},
    problems=(*OF_QUERY, 404),
    **_of_rule,
)
PUT_RULE = Operation(
    name="put_rule",
    method="PUT",
    summary="Add a rule, or replace the one of this id",
    bodies={JSON: Rule},
    example=RULE_EXAMPLE,
    answers={200: Answer("The broker has the rule.", Rule, example=RULE_EXAMPLE)},
    problems=OF_BODY,
    **_of_rule,
)
DELETE_RULE = Operation(
    name="delete_rule",
    method="DELETE",
    summary="Remove a rule",
    answers={204: Answer("The broker has the removal.")},
    problems=(*OF_QUERY, 404),
    **_of_rule,
)
OPERATIONS = (
    RECOMMENDATIONS,
    RECOMMENDATIONS_AFTER_EVENTS,
    RANK,
    SIMILAR,
    BOUGHT_TOGETHER,
    TRENDING,
    USER,
    STREAM,
    RELEASES,
    RULES,
    PREVIEW_RULES,
    RULE,
    PUT_RULE,
    DELETE_RULE,
    *COMMON_OPERATIONS,
)
"""All of the server."""
