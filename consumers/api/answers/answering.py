"""One turn of answers: the queries that wait, answered from a replica as it is now."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from http import HTTPStatus

from kafka.errors import RetriableError

from anabranch.errors import BrokerUnavailable
from anabranch.http.problems import HttpProblem, unavailable
from anabranch.settings import Settings
from consumers.api.answers.item_queries import ItemQueries
from consumers.api.answers.queries import (
    Answer,
    BoughtTogetherQuery,
    PreviewQuery,
    Query,
    RankQuery,
    SimilarQuery,
    SlateQuery,
    TrendingQuery,
)
from consumers.api.answers.recommender import Recommender
from consumers.api.answers.users import Users
from consumers.replica.replica import Replica
from consumers.user_states.changelog import StateMissing

RETRY_AFTER_S = 5
log = logging.getLogger(__name__)

UNAVAILABLE = (BrokerUnavailable, RetriableError, StateMissing)
"""Why the state of an evicted user may not be read back now."""

Outcome = Answer | HttpProblem


class Answering:
    """Answers queries in the replica's thread."""

    def __init__(self, settings: Settings, replica: Replica, wall: Callable[[], float]) -> None:
        """`wall`: seconds since 1970."""
        self._replica = replica
        self._wall = wall
        self._users = Users(replica.store, replica.changelog, settings.partitions)
        self._recommender = Recommender(settings, replica.model, self._users, replica.store.items)
        self._items = ItemQueries(replica.model, replica.store.items)

    def answer(self, queries: Sequence[Query]) -> list[Outcome]:
        """The answer to each query, or the problem that it met. Slates are made together."""
        if self._replica.model.live is None or not self._replica.is_following:
            waits_for = self._replica.waits_for
            return [unavailable(f"nothing can be answered yet: {waits_for}", RETRY_AFTER_S) for _ in queries]
        outcomes: dict[int, Outcome] = {}
        slates = [(number, query) for number, query in enumerate(queries) if isinstance(query, SlateQuery)]
        outcomes |= zip((number for number, _ in slates), self._slates([query for _, query in slates]), strict=True)
        for number, query in enumerate(queries):
            if not isinstance(query, SlateQuery):
                outcomes[number] = _outcome(lambda query=query: self._other(query))  # type: ignore[misc]
        return [outcomes[number] for number in range(len(queries))]

    def _slates(self, queries: Sequence[SlateQuery]) -> Sequence[Outcome]:
        """Together; where one of them fails, each alone, so that it fails no other."""
        now_ms = int(self._wall() * 1000)
        try:
            return self._recommender.slates(queries, now_ms)
        except UNAVAILABLE as error:  # for each alone it would take as long again
            return [_unavailable(error)] * len(queries)
        except Exception:
            return [
                _outcome(lambda query=query: self._recommender.slates([query], now_ms)[0])  # type: ignore[misc]
                for query in queries
            ]

    def _other(self, query: Query) -> Answer:
        match query:
            case RankQuery():
                return self._recommender.rank(query, int(self._wall() * 1000))
            case PreviewQuery():
                return self._recommender.preview(query, int(self._wall() * 1000))
            case SimilarQuery():
                return self._items.similar(query)
            case BoughtTogetherQuery():
                return self._items.bought_together(query)
            case TrendingQuery():
                return self._items.trending(query)
            case SlateQuery():
                raise AssertionError("slates are made together")
            case _:
                return self._users.describe(query.user_id)


def _outcome(answer: Callable[[], Answer]) -> Outcome:
    """The answer, or the problem. What is a defect is logged, and does not end the process: a query caused it."""
    try:
        return answer()
    except HttpProblem as problem:
        return problem
    except UNAVAILABLE as error:
        return _unavailable(error)
    except Exception:
        log.exception("a query failed")
        return HttpProblem(HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed; its log says why")


def _unavailable(error: Exception) -> HttpProblem:
    return unavailable(f"a user's state cannot be read back now: {error}", RETRY_AFTER_S)
