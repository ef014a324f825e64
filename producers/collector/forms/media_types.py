"""In which media types bodies are taken."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from anabranch.http.operations import JSON as JSON
from anabranch.http.problems import HttpProblem

NDJSON = ("application/x-ndjson", "application/ndjson")


def require_media_type(content_type: str | None, accepted: Sequence[str]) -> str:
    """The media type of a body, without parameters: one of `accepted`. Raises `HttpProblem` (415).

    A body without one is refused too: pages of any site may send it, for browsers ask nobody before (no preflight).
    """
    media_type = (content_type or "").partition(";")[0].strip().lower()
    if media_type in accepted:
        return media_type
    raise HttpProblem(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        f"the media type {media_type!r} is not supported: send {' or '.join(accepted)}, and say so in Content-Type",
        {"Accept": ", ".join(accepted)},  # RFC 9110, 15.5.16
    )
