"""A client of `anabranch serve`."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

import msgspec
from msgspec import Struct

from anabranch.client.connection import ServerClient, ServerConnection
from anabranch.client.retries import RETRIES, RetryPolicy
from anabranch.http.messages.serving import (
    ALL_ITEMS,
    DEFAULT_LIMIT,
    ConditionParameters,
    ItemConditions,
    RankAnswer,
    RankBody,
    RecentEvent,
    RelatedItemsAnswer,
    SlateAnswer,
    SlateBody,
    SlateParameters,
    TrendingAnswer,
    UserAnswer,
)

TIMEOUT_S = 10.0
"""More than the server takes for an answer at most."""


class RecommenderClient(ServerClient):
    """Asks for items; safe to use in several threads. No request changes anything at the server.

    All methods raise `RequestRefused` if the request is wrong, and `ServerUnavailable` if it may succeed later.
    """

    def __init__(
        self, url: str, key: str | None = None, timeout_s: float = TIMEOUT_S, retries: RetryPolicy = RETRIES
    ) -> None:
        """`url`: the server's, such as http://127.0.0.1:8001. `key`: an API key with the scope `rankings:read`."""
        super().__init__(ServerConnection(url, key, timeout_s, retries))

    def recommendations(
        self,
        user_id: str,
        placement: str | None = None,
        limit: int = DEFAULT_LIMIT,
        offset: int = 0,
        conditions: ItemConditions = ALL_ITEMS,
        explain: bool = False,
    ) -> SlateAnswer:
        """The user's slate of a placement; None: of the first one. With `explain`, its items have their reasons."""
        parameters = SlateParameters.of(conditions, placement=placement, limit=limit, offset=offset, explain=explain)
        return self._connection.get(f"{_path('users', user_id)}/recommendations", SlateAnswer, _pairs(parameters))

    def recommendations_after(
        self,
        events: Sequence[RecentEvent],
        user_id: str | None = None,
        placement: str | None = None,
        limit: int = DEFAULT_LIMIT,
        offset: int = 0,
        conditions: ItemConditions = ALL_ITEMS,
        explain: bool = False,
    ) -> SlateAnswer:
        """The slate of a user, or of a guest, after events that only this request knows of."""
        body = SlateBody(
            user_id=user_id,
            events=tuple(events),
            placement=placement,
            limit=limit,
            offset=offset,
            conditions=conditions,
            explain=explain,
        )
        return self._connection.post("/v1/recommendations", SlateAnswer, body)

    def rank(
        self, item_ids: Sequence[str], user_id: str | None = None, events: Sequence[RecentEvent] = ()
    ) -> RankAnswer:
        """These items in the order of a user, or of a guest, after further events."""
        body = RankBody(items=tuple(item_ids), user_id=user_id, events=tuple(events))
        return self._connection.post("/v1/rank", RankAnswer, body)

    def similar(
        self, item_id: str, limit: int = DEFAULT_LIMIT, conditions: ItemConditions = ALL_ITEMS
    ) -> RelatedItemsAnswer:
        """The items nearest to an item."""
        return self._related(item_id, "similar", ConditionParameters.of(conditions, limit=limit))

    def bought_together(
        self, item_id: str, limit: int = DEFAULT_LIMIT, conditions: ItemConditions = ALL_ITEMS
    ) -> RelatedItemsAnswer:
        """The items of the most co-visits with an item."""
        return self._related(item_id, "bought-together", ConditionParameters.of(conditions, limit=limit))

    def trending(self, limit: int = DEFAULT_LIMIT, conditions: ItemConditions = ALL_ITEMS) -> TrendingAnswer:
        """The items of the most events, newer events counted more."""
        parameters = ConditionParameters.of(conditions, limit=limit)
        return self._connection.get("/v1/trending", TrendingAnswer, _pairs(parameters))

    def user(self, user_id: str) -> UserAnswer:
        """What is known of a user. Needs a key with the scope `admin`."""
        return self._connection.get(_path("users", user_id), UserAnswer)

    def _related(self, item_id: str, which: str, parameters: ConditionParameters) -> RelatedItemsAnswer:
        return self._connection.get(f"{_path('items', item_id)}/{which}", RelatedItemsAnswer, _pairs(parameters))


def _path(kind: str, identifier: str) -> str:
    """An id of dots alone would be taken as a step up: `quote` leaves dots as they are."""
    return f"/v1/{kind}/{quote(identifier, safe='').replace('.', '%2E')}"


def _pairs(parameters: Struct) -> list[tuple[str, str]]:
    """The query string of parameters; a list has its name repeated, and what has its default is left out."""
    pairs: list[tuple[str, str]] = []
    for field in msgspec.structs.fields(parameters):
        value = getattr(parameters, field.name)
        if value != field.default:
            pairs += [(field.name, _text(part)) for part in (value if isinstance(value, tuple) else (value,))]
    return pairs


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
