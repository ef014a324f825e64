"""Open streams of slates: each user's newest one, whenever it changes."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import suppress
from http import HTTPStatus
from itertools import chain

from anabranch.http.problems import HttpProblem, unavailable
from consumers.api.answers.queries import ItemsAnswer, SlateQuery
from consumers.api.answers.query_queue import QueryQueue
from consumers.api.routes.metrics import ApiMetrics
from consumers.replica.user_changes import UserChanges

MAX_QUERIES = 16
"""Slates for streams that are asked for at once: what other clients wait for comes between them."""
RETRY_AFTER_S = 5


class SlateStream:
    """One client's. It keeps no slate: who reads slowly gets the newest one after having read the one before."""

    def __init__(self, query: SlateQuery) -> None:
        self.query = query
        self.may_differ = asyncio.Event()
        """Set whenever the slate may be another one, or the stream ends."""
        self.has_ended = False

    async def wait(self, timeout_s: float) -> bool:
        """Whether the slate may be another one, or the stream has ended, within this time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.may_differ.wait()
        return self.may_differ.is_set()


class SlateStreams:
    """All streams. Nothing happens while no user changes. For the event loop's thread, but where it says otherwise."""

    def __init__(self, queue: QueryQueue, changes: UserChanges, max_streams: int, metrics: ApiMetrics) -> None:
        self._queue = queue
        self._changes = changes
        self._max_streams = max_streams
        self._metrics = metrics
        self._open: defaultdict[str, set[SlateStream]] = defaultdict(set)
        self._count = 0
        self._turns = asyncio.Semaphore(MAX_QUERIES)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._has_ended = False
        metrics.streams_limit.set(max_streams)

    def open(self, query: SlateQuery) -> SlateStream:
        """A stream of the user's slates, to be closed. Raises `HttpProblem` (503) if there are too many, or at the
        end of the process."""
        assert query.user_id is not None
        if self._has_ended:
            raise unavailable("the server ends: open the stream again", RETRY_AFTER_S)
        if self._count >= self._max_streams:
            raise unavailable(
                f"{self._max_streams} streams are open, which is the limit (serve_streams): try again later, or ask "
                "another server",
                RETRY_AFTER_S,
            )
        self._loop = asyncio.get_running_loop()
        stream = SlateStream(query)
        self._open[query.user_id].add(stream)
        self._changes.watch(query.user_id)
        self._count += 1
        self._metrics.streams.set(self._count)
        return stream

    def close(self, stream: SlateStream) -> None:
        """The client has gone, or was told all."""
        user_id = stream.query.user_id
        assert user_id is not None
        self._open[user_id].remove(stream)
        if not self._open[user_id]:
            del self._open[user_id]
        self._changes.unwatch(user_id)
        self._count -= 1
        self._metrics.streams.set(self._count)

    async def first(self, stream: SlateStream) -> ItemsAnswer:
        """The slate of now. Raises `HttpProblem` as every query does."""
        answer = await self._ask(stream)
        self._metrics.stream_slates.inc()
        return answer

    async def updates(
        self, stream: SlateStream, shown: ItemsAnswer, idle_s: float
    ) -> AsyncIterator[ItemsAnswer | None]:
        """Every slate that differs from the one shown before it, until the stream ends; None: there is no other slate,
        at the latest after `idle_s` seconds.

        Raises `HttpProblem`, but for 503: then the slate is asked for again when the problem says.
        """
        while True:
            may_differ = await stream.wait(idle_s)
            if stream.has_ended:
                return
            answer = await self._newest(stream) if may_differ else None
            if answer is None or not _differ(answer, shown):
                yield None
                continue
            shown = answer
            self._metrics.stream_slates.inc()
            yield answer

    def notify(self, user_ids: Collection[str]) -> None:
        """The slates of these users may have changed. From any thread."""
        if user_ids:
            self._call(lambda: self._wake(user_ids))

    def end(self) -> None:
        """End all streams, and open no further ones. From any thread, and safe to call again."""
        if not self._has_ended:
            self._has_ended = True
            self._call(self._end_all)

    def _call(self, function: Callable[[], None]) -> None:
        """On the event loop, if there was ever a stream on it, and it still runs."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function)

    def _wake(self, user_ids: Collection[str]) -> None:
        for user_id in user_ids:
            for stream in self._open.get(user_id, ()):
                stream.may_differ.set()

    def _end_all(self) -> None:
        for stream in chain.from_iterable(self._open.values()):
            stream.has_ended = True
            stream.may_differ.set()

    async def _newest(self, stream: SlateStream) -> ItemsAnswer | None:
        """The slate of now; None if it cannot be ranked now. Raises `HttpProblem`, but for 503."""
        stream.may_differ.clear()
        try:
            return await self._ask(stream)
        except HttpProblem as problem:
            if problem.status != HTTPStatus.SERVICE_UNAVAILABLE:
                raise
            after_s = float(problem.headers.get("Retry-After", RETRY_AFTER_S))
            asyncio.get_running_loop().call_later(after_s, stream.may_differ.set)
            return None

    async def _ask(self, stream: SlateStream) -> ItemsAnswer:
        async with self._turns:
            answer = await self._queue.ask(stream.query)
        assert isinstance(answer, ItemsAnswer)
        return answer


def _differ(answer: ItemsAnswer, shown: ItemsAnswer) -> bool:
    """Whether the user did something between two answers, or their items differ."""
    items, shown_items = ([item.item_id for item in slate.items] for slate in (answer, shown))
    return answer.as_of != shown.as_of or items != shown_items
