"""HTTP/1.1 as uvicorn speaks it with httptools, whose parser is that of Node.js, but with bounds for what it collects.

It takes half the time of h11, which has such bounds: without them, a client could fill the memory with headers.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from anabranch.http.problems import MEDIA_TYPE, HttpProblem

MAX_HEAD_BYTES = 16_384
"""Of a request's first line and headers, with the trailers behind a body in chunks."""
NO_HTTP = "this is no request of HTTP/1.1"
TOO_LARGE = (
    f"first line and headers of the request have more than {MAX_HEAD_BYTES} bytes: send fewer or shorter headers"
)


class HeadTooLarge(Exception):
    """Raised within a callback of the parser, which ends the connection."""


class BoundedProtocol(HttpToolsProtocol):
    """Refuses heads of more than `MAX_HEAD_BYTES`. What is no HTTP is refused too, and the connection is closed.

    Between two checks asyncio reads up to 256 KiB, which is what a connection can hold beyond the bound.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_too_large = False
        self._is_in_body = False
        self._active: RequestResponseCycle | None = None
        """The request that is answered; uvicorn's `cycle` is the newest one, which may wait behind it."""
        self._header_bytes = 0
        self._reported = False
        self._unreported_bytes = 0
        """Read since the parser last reported a header or a part of a body: it has collected them."""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._active = cycle
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio. uvicorn 0.54 tells only the newest request of a connection that its client has gone: a
        stream with another request behind it would go on for ever. No upstream issue is known."""
        if self._active is not None and not self._active.response_complete:
            self._active.disconnected = True
            self._active.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        self._reported = False
        super().data_received(data)
        self._unreported_bytes = 0 if self._reported else self._unreported_bytes + len(data)
        if self._unreported_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._is_too_large = True
            self.send_400_response(TOO_LARGE)

    def on_message_begin(self) -> None:
        """Called by the parser."""
        self._header_bytes = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser, for trailers too. Raises `HeadTooLarge`."""
        self._reported = True
        self._header_bytes += len(name) + len(value)
        if self._header_bytes + len(self.url) > MAX_HEAD_BYTES:
            self._is_too_large = True
            raise HeadTooLarge
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self._is_in_body = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._reported = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._reported = True
        self._is_in_body = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn after an error of the parser: the answer is a problem, as all errors of ours are.

        There is none where the request has an answer already, or one before it still waits for its own: the client
        would take the problem for that. The connection ends in any case.
        """
        has_answer = self._has_answer()
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if not has_answer:
            self._answer_problem()
        self.transport.close()

    def _has_answer(self) -> bool:
        """Whether an answer of the application has begun, or is to come, that the problem would follow or precede."""
        has_cycle = self.cycle is not None
        if self._is_in_body:
            return has_cycle and (self.cycle.response_started or bool(self.pipeline))
        return has_cycle and not self.cycle.response_complete

    def _answer_problem(self) -> None:
        problem = (
            HttpProblem(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, TOO_LARGE)
            if self._is_too_large
            else HttpProblem(HTTPStatus.BAD_REQUEST, NO_HTTP)
        )
        body = problem.body()
        head = b"content-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (MEDIA_TYPE.encode(), len(body))
        self.transport.write(STATUS_LINE[problem.status] + head + body)
