"""Events as a browser sends them without asking first (a preflight request of CORS), which `POST /v1/beacon` takes.

A page that is left can only send what needs no preflight: a body of text, and no header of its own. So the key is in
the address, and the body is text/plain. A browser sends such a request for any page, so CORS does not keep other sites
out. Therefore this form compares the header `Origin`, which no page can forge, with the origins that are allowed. It
reads no cookie, so that a page of another site gains nothing from who its visitor is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from http import HTTPStatus

from starlette.requests import Request

from anabranch.http.access import AccessControl
from anabranch.http.problems import HttpProblem
from anabranch.own_event_types import OwnEventTypes
from producers.collector.forms.events_form import EventsForm
from producers.collector.forms.limits import CollectorLimits


class BeaconForm(EventsForm):
    """One event or a list of events, as JSON in a body of text, from pages of the origins that are allowed."""

    media_types: Sequence[str] = ("text/plain",)

    def __init__(self, limits: CollectorLimits, own_types: OwnEventTypes, origins: Collection[str]) -> None:
        super().__init__(limits, own_types)
        self._origins = frozenset(origins)

    def authorize(self, request: Request, access: AccessControl) -> str | None:
        """By the origin of the page, and by the key in the address. Raises `HttpProblem`: 403 for a page of any other
        site, and for what is no browser; else as `AccessControl.require_public`."""
        if request.headers.get("origin") not in self._origins:
            raise HttpProblem(
                HTTPStatus.FORBIDDEN,
                "the page's origin is not among those that are allowed: add it to allowed_origins "
                "(ANABRANCH_ALLOWED_ORIGINS); what is no browser sends its events to /v1/events",
            )
        return access.require_public(request.query_params.get("key") or None, "events:write")
