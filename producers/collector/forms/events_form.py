"""Events in the project's own form, which `POST /v1/events` takes."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

from anabranch.http.access import AccessControl
from anabranch.http.messages.collector import EventsAnswer
from anabranch.http.problems import HttpProblem
from anabranch.http.responses import json_response
from anabranch.own_event_types import OwnEventTypes
from producers.collector.forms import form
from producers.collector.forms.event_decoder import EventDecoder
from producers.collector.forms.form import Reception, RequestContent
from producers.collector.forms.limits import CollectorLimits
from producers.collector.forms.media_types import JSON, NDJSON
from producers.collector.forms.request_events import parse


class EventsForm:
    """One event, a list of events, or an event a line; see `Form`."""

    media_types: Sequence[str] = (JSON, *NDJSON)
    publishes = True

    def __init__(self, limits: CollectorLimits, own_types: OwnEventTypes) -> None:
        self._limits = limits
        self._decoder = EventDecoder(own_types)
        self.max_body_bytes = limits.body_bytes

    def authorize(self, request: Request, access: AccessControl) -> str | None:
        """By the header `Authorization`."""
        return form.authorize_by_header(request, access)

    def read(self, body: bytes, reception: Reception) -> RequestContent:
        """Raises `HttpProblem`: 400 if the body is no JSON or has no event, 413 if it has too many."""
        return parse(body, reception.media_type, self._limits, self._decoder)

    def answer(self, content: RequestContent) -> Response:
        """202. Raises `HttpProblem` (400) if no event is valid."""
        if not content.events:
            raise HttpProblem(
                HTTPStatus.BAD_REQUEST,
                "no event of the request is valid: `refused` says why",
                members={"taken": 0, "refused": content.refused},
            )
        answer = EventsAnswer(taken=len(content.events), refused=content.refused)
        return json_response(answer, HTTPStatus.ACCEPTED)
