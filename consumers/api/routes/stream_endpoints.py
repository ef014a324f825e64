"""The route of streams: server-sent events (HTML Living Standard, 9.2), one for every new slate of a user."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from anabranch.http.access import AccessControl
from anabranch.http.messages.serving import SlateAnswer, StreamParameters
from anabranch.http.operations import OperationRoute
from anabranch.http.problems import HttpProblem
from consumers.api.answers.queries import ItemsAnswer, SlateQuery
from consumers.api.routes import operations
from consumers.api.routes.endpoints import answer_fields
from consumers.api.routes.parameters import placement_named
from consumers.api.routes.ranking_ids import RankingIds
from consumers.api.routes.route_groups import AddRoute
from consumers.api.routes.slate_streams import SlateStream, SlateStreams
from consumers.replica.replica import Replica

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""Nobody on the way keeps what is sent: nginx would, until it has a buffer full."""
HEARTBEAT_S = 15.0
HEARTBEAT = b":\n\n"
"""A comment: proxies end connections on which nothing is sent."""
RETRY_MS = 3_000
"""After it a browser opens a stream again that has ended."""
SEND_TIMEOUT_S = 60.0
"""How long a client may read nothing while something waits to be sent: then its stream ends."""


class StreamEndpoints:
    """Opens streams, and writes what they tell."""

    def __init__(self, access: AccessControl, streams: SlateStreams, replica: Replica) -> None:
        self._access = access
        self._streams = streams
        self._replica = replica
        self._ranking_ids = RankingIds()

    def routes(self, route: AddRoute) -> Sequence[OperationRoute]:
        """See `RouteGroup`."""
        return [route(operations.STREAM, self._stream)]

    async def _stream(self, request: Request, parameters: StreamParameters) -> Response:
        placement = placement_named(parameters.placement, self._replica.placements)
        if request.method == "HEAD":
            return Response(headers=HEADERS, media_type=operations.EVENT_STREAM)
        stream = self._streams.open(SlateQuery(request.path_params["user_id"], placement, parameters.limit))
        try:
            first = await self._streams.first(stream)
        except BaseException:
            self._streams.close(stream)
            raise
        messages = self._messages(stream, first, request.headers.get("authorization"))
        return EventStreamResponse(messages, lambda: self._streams.close(stream))

    async def _messages(
        self, stream: SlateStream, first: ItemsAnswer, authorization: str | None
    ) -> AsyncIterator[bytes]:
        """The slate of now, and every new one, until the process ends, the API key is removed, or a slate fails."""
        yield b"retry: %d\n\n" % RETRY_MS + self._event(stream, first)
        try:
            async for answer in self._streams.updates(stream, first, HEARTBEAT_S):
                self._access.require(authorization, "rankings:read")
                yield HEARTBEAT if answer is None else self._event(stream, answer)
        except HttpProblem:
            return

    def _event(self, stream: SlateStream, answer: ItemsAnswer) -> bytes:
        ranking_id = self._ranking_ids.next(stream.query, answer)
        fields = answer_fields(ranking_id, answer, self._replica.freshness_ms())
        slate = SlateAnswer(**fields, user_id=stream.query.user_id, placement=stream.query.placement)
        return b"id: %s\nevent: slate\ndata: %s\n\n" % (ranking_id.encode(), msgspec.json.encode(slate))


class EventStreamResponse(StreamingResponse):
    """Sends messages until there are no more, or the client has gone."""

    def __init__(self, messages: AsyncIterator[bytes], on_end: Callable[[], None]) -> None:
        """`on_end` is called once, whatever ends it."""
        super().__init__(messages, headers=HEADERS, media_type=operations.EVENT_STREAM)
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The response as an ASGI application."""

        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await send(message)

        try:
            await super().__call__(scope, receive, send_in_time)
        except TimeoutError:  # uvicorn closes the connection, as the answer is not complete
            return
        finally:
            self._on_end()
