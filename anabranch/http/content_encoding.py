"""Compressed bodies of requests (RFC 9110, 8.4.1), decompressed within their limits. Only gzip is taken."""

from __future__ import annotations

import zlib
from http import HTTPStatus

from anabranch.http.admission import Ticket
from anabranch.http.problems import HttpProblem
from anabranch.http.request_body import body_too_large

GZIP = ("gzip", "x-gzip")
GZIP_ONLY = zlib.MAX_WBITS + 16
"""Window of zlib for a gzip header, and no other."""


def require_encoding(content_encoding: str | None) -> bool:
    """Whether a body is compressed by gzip. Raises `HttpProblem` (415) for any other compression."""
    encoding = (content_encoding or "identity").strip().lower()
    if encoding in GZIP:
        return True
    if encoding == "identity":
        return False
    raise HttpProblem(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        f"the content encoding {encoding!r} is not supported: compress with gzip, or send the body as it is",
        {"Accept-Encoding": "gzip, identity"},
    )


def decompress(body: bytes, max_bytes: int, ticket: Ticket) -> bytes:
    """What a gzip body of one member holds; `ticket` counts its bytes too.

    No more than `max_bytes` + 1 are ever decompressed, however small the body is. Raises `HttpProblem`: 413 beyond
    `max_bytes`, 400 if it is no gzip, 503 if too much is in flight.
    """
    stream = zlib.decompressobj(GZIP_ONLY)
    try:
        content = stream.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise _no_gzip(str(error)) from error
    if len(content) > max_bytes:
        raise body_too_large(max_bytes)
    if not stream.eof:
        raise _no_gzip("it ends too early")
    if stream.unused_data:
        raise _no_gzip("there is more behind its end")
    ticket.take(len(content))
    return content


def _no_gzip(reason: str) -> HttpProblem:
    return HttpProblem(
        HTTPStatus.BAD_REQUEST,
        f"the body is not what Content-Encoding says: {reason}. Compress it with gzip as one member, or leave "
        "Content-Encoding out",
    )
