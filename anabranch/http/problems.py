"""Answers to requests that cannot be served, as problem details (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from msgspec import Struct

MEDIA_TYPE = "application/problem+json"
NO_HEADERS: Mapping[str, str] = {}


class Problem(Struct, kw_only=True):
    """Problem details (RFC 9457). An answer may have further members."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    """What is wrong, and what to do."""


class HttpProblem(Exception):
    """A request that cannot be served. Its `type` is about:blank: status and detail say what there is to say."""

    def __init__(
        self, status: int, detail: str, headers: Mapping[str, str] = NO_HEADERS, members: Mapping[str, object] = {}
    ) -> None:
        """`detail` says what is wrong and what to do; `members` are further fields of the answer."""
        super().__init__(detail)
        self.status = HTTPStatus(status)
        self.detail = detail
        self.headers = headers
        self.members = members

    def body(self) -> bytes:
        """The problem as JSON, of the media type `MEDIA_TYPE`."""
        problem = Problem(title=self.status.phrase, status=int(self.status), detail=self.detail)
        return msgspec.json.encode(msgspec.structs.asdict(problem) | dict(self.members))


def unavailable(detail: str, retry_after_s: int) -> HttpProblem:
    """503: the same request may succeed in `retry_after_s` seconds."""
    return HttpProblem(HTTPStatus.SERVICE_UNAVAILABLE, detail, {"Retry-After": str(retry_after_s)})
