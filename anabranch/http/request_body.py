"""The body of a request, read within its limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus

from starlette.requests import ClientDisconnect

from anabranch.http.admission import Ticket
from anabranch.http.problems import HttpProblem

READ_TIMEOUT_S = 10.0
"""How long a client may take to send a body: what it has sent so far occupies memory."""
CLOSE = {"Connection": "close"}
"""The rest of a body that comes too slowly is not to be sent. Of one that is too large, uvicorn reads and drops the
rest: many clients look for an answer only once they have sent all, and would see a broken connection."""


async def read_body(
    chunks: AsyncIterator[bytes],
    content_length: str | None,
    max_bytes: int,
    ticket: Ticket,
    timeout_s: float = READ_TIMEOUT_S,
) -> bytes:
    """The whole body; `ticket` counts its bytes before they are kept.

    Raises `HttpProblem`: 413 over `max_bytes`, 408 if it takes longer than `timeout_s`, 503 if too much is in flight,
    400 if the client leaves before its end.
    """
    if content_length is not None and content_length.isdecimal() and int(content_length) > max_bytes:
        raise body_too_large(max_bytes)
    try:
        async with asyncio.timeout(timeout_s):
            return await _read(chunks, max_bytes, ticket)
    except TimeoutError as error:
        raise HttpProblem(
            HTTPStatus.REQUEST_TIMEOUT, f"the body did not arrive within {timeout_s:g} s: send less at once", CLOSE
        ) from error
    except ClientDisconnect as error:  # nobody reads the answer, which is for the metrics (RFC 9112, 8)
        raise HttpProblem(HTTPStatus.BAD_REQUEST, "the client left before the end of the body", CLOSE) from error


async def _read(chunks: AsyncIterator[bytes], max_bytes: int, ticket: Ticket) -> bytes:
    body = bytearray()
    async for chunk in chunks:
        if len(body) + len(chunk) > max_bytes:
            raise body_too_large(max_bytes)
        ticket.take(len(chunk))
        body += chunk
    return bytes(body)


def body_too_large(max_bytes: int) -> HttpProblem:
    """413, for a body of more than `max_bytes`."""
    return HttpProblem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"the body has more than {max_bytes} bytes: send it in several requests",
    )
