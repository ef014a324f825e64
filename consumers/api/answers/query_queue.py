"""Queries handed from the event loop, which speaks HTTP, to the thread that has the user states; and answers back."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from anabranch.http.problems import HttpProblem, unavailable
from consumers.api.answers.queries import Answer, Query

ANSWERED_WITHIN_S = 5.0
"""Longer than the longest turn of the thread that answers, unless the machine is overloaded."""
RETRY_AFTER_S = 1


class WaitingQuery(NamedTuple):
    """A query whose client waits."""

    query: Query
    future: asyncio.Future[Answer]


class QueryQueue:
    """First in, first out. Its length is bounded by the requests that the server admits."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake` is called with every query, so that the thread that answers takes it at once."""
        self._wake = wake
        self._waiting: deque[WaitingQuery] = deque()

    async def ask(self, query: Query) -> Answer:
        """The answer. Raises `HttpProblem`: what the query met, or 503 if there is no answer in time."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        waiting = WaitingQuery(query, future)
        self._waiting.append(waiting)
        self._wake()
        try:
            async with asyncio.timeout(ANSWERED_WITHIN_S):
                return await future
        except TimeoutError as error:
            with suppress(ValueError):  # it was taken
                self._waiting.remove(waiting)
            raise unavailable(
                f"there was no answer within {ANSWERED_WITHIN_S:g} s: send the same request again later", RETRY_AFTER_S
            ) from error

    def take(self, limit: int) -> list[WaitingQuery]:
        """Up to `limit` queries, for the thread that answers; those whose clients have given up are left out."""
        taken = [self._waiting.popleft() for _ in range(min(limit, len(self._waiting)))]
        return [waiting for waiting in taken if not waiting.future.cancelled()]


def resolve(queries: Sequence[WaitingQuery], answers: Sequence[Answer | HttpProblem]) -> None:
    """Give the answers to the clients, from any thread."""
    if queries:
        loop = queries[0].future.get_loop()
        if not loop.is_closed():  # the server has ended, and with it whoever waited
            loop.call_soon_threadsafe(_resolve, queries, answers)


def _resolve(queries: Sequence[WaitingQuery], answers: Sequence[Answer | HttpProblem]) -> None:
    for waiting, answer in zip(queries, answers, strict=True):
        if waiting.future.done():
            continue
        if isinstance(answer, HttpProblem):
            waiting.future.set_exception(answer)
        else:
            waiting.future.set_result(answer)
