"""`POST /v1/beacon`: events as a browser sends them without asking first (a preflight request of CORS).

A page that is left can only send what needs no preflight: a body of text, and no header of its own. So the key is in
the address, and the body is text/plain. A browser sends such a request for any page, so CORS does not keep other sites
out. Therefore this endpoint compares the header `Origin`, which no page can forge, with the origins that are allowed.
It reads no cookie, so that a page of another site gains nothing from who its visitor is.
"""

from __future__ import annotations

from collections.abc import Collection
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

from anabranch.http.access import AccessControl
from anabranch.http.problems import HttpProblem
from anabranch.http.responses import problem_response
from producers.collector.events_endpoint import EventsEndpoint
from producers.collector.metrics import CollectorMetrics
from producers.collector.request_events import JSON

TEXT = "text/plain"


class BeaconEndpoint:
    """Answers as `POST /v1/events` does with the same events, but only to pages of the origins that are allowed."""

    def __init__(
        self, events: EventsEndpoint, access: AccessControl, origins: Collection[str], metrics: CollectorMetrics
    ) -> None:
        self._events = events
        self._access = access
        self._origins = frozenset(origins)
        self._metrics = metrics

    async def post(self, request: Request) -> Response:
        """Answer one request, and count the answer."""
        key = request.query_params.get("key") or None
        try:
            self._require_origin(request.headers.get("origin"))
            _require_text(request.headers.get("content-type"))
            self._access.require_public(key, "events:write")
        except HttpProblem as problem:
            self._metrics.answered(problem.status)
            return problem_response(problem)
        return await self._events.post(_as_events_request(request, key))

    def _require_origin(self, origin: str | None) -> None:
        """Raises `HttpProblem` (403) for a page of any other site, and for what is no browser."""
        if origin not in self._origins:
            raise HttpProblem(
                HTTPStatus.FORBIDDEN,
                "the page's origin is not among those that are allowed: add it to allowed_origins "
                "(ANABRANCH_ALLOWED_ORIGINS); what is no browser sends its events to /v1/events",
            )


def _require_text(content_type: str | None) -> None:
    """Raises `HttpProblem` (415)."""
    if (content_type or "").partition(";")[0].strip().lower() != TEXT:
        raise HttpProblem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"the body has to be JSON as {TEXT}, which browsers send without a preflight request; send {JSON} to "
            "/v1/events",
            {"Accept": TEXT},
        )


def _as_events_request(request: Request, key: str | None) -> Request:
    """The same request, as a server would send it to `/v1/events`."""
    headers = Headers(scope=request.scope).mutablecopy()
    headers["content-type"] = JSON
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    return Request({**request.scope, "headers": headers.raw}, request.receive)
