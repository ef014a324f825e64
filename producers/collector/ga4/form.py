"""The forms of GA4's Measurement Protocol: `POST /mp/collect`, and `POST /debug/mp/collect`, which only checks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Literal

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from anabranch.http.access import AccessControl
from anabranch.http.problems import HttpProblem
from anabranch.http.responses import json_response
from producers.collector.forms import form
from producers.collector.forms.form import Reception, RequestContent
from producers.collector.forms.json_body import decode_json
from producers.collector.forms.limits import CollectorLimits
from producers.collector.forms.media_types import JSON
from producers.collector.forms.shop_names import ShopNames
from producers.collector.ga4.content import Ga4Reader, Ga4Request

BODY_BYTES = 133_120
"""Of Google's documentation: a body is smaller than 130 kB."""
REMEDY = "Send an object with `client_id` and `events`, a list of events"
_request = msgspec.json.Decoder(Ga4Request)


class ValidationMessage(Struct, frozen=True, kw_only=True, rename="camel"):
    """What is wrong with an event."""

    field_path: str
    description: str
    validation_code: Literal["VALUE_INVALID", "NAME_INVALID"]
    """The event, or a field of it, is refused; or the event is ignored for its name."""


class ValidationReport(Struct, frozen=True, kw_only=True, rename="camel"):
    """What is wrong with the events of a request; no message: nothing is."""

    validation_messages: list[ValidationMessage]


class Ga4Form:
    """See `Form`."""

    media_types: Sequence[str] = (JSON,)
    publishes = True

    def __init__(self, limits: CollectorLimits, names: ShopNames) -> None:
        self._limits = limits
        self._names = names
        self.max_body_bytes = min(limits.body_bytes, BODY_BYTES)

    def authorize(self, request: Request, access: AccessControl) -> str | None:
        """By `api_secret` in the query; without it, by the header `Authorization`, which no log of a proxy has."""
        secret = request.query_params.get("api_secret")
        if secret is not None:
            return access.require_public(secret, "events:write")
        return form.authorize_by_header(request, access)

    def read(self, body: bytes, reception: Reception) -> RequestContent:
        """Raises `HttpProblem`: 400 if the body is no JSON or has no events, 413 if it has too many."""
        request = decode_json(_request, body, REMEDY)
        if not request.events:
            raise HttpProblem(HTTPStatus.BAD_REQUEST, f"the body has no event. {REMEDY}")
        return Ga4Reader(request, self._names, self._limits, reception.received_ms).read()

    def answer(self, content: RequestContent) -> Response:
        """204. Raises `HttpProblem` (400) if all events are refused."""
        if content.refused and not (content.events or content.ignored):
            raise HttpProblem(
                HTTPStatus.BAD_REQUEST,
                "no event of the request is valid: `refused` says why",
                members={"taken": 0, "refused": content.refused},
            )
        return Response(status_code=HTTPStatus.NO_CONTENT)


class Ga4DebugForm(Ga4Form):
    """Says what is wrong with a request, and publishes nothing."""

    publishes = False

    def answer(self, content: RequestContent) -> Response:
        """200, with a validation message for every event that is refused or ignored."""
        return json_response(ValidationReport(validation_messages=list(_validation_messages(content))))


def _validation_messages(content: RequestContent) -> Iterator[ValidationMessage]:
    for refusal in content.refused:
        yield ValidationMessage(
            field_path=refusal.field or f"events[{refusal.index}]",
            description=f"{refusal.reason}; {refusal.remedy}",
            validation_code="VALUE_INVALID",
        )
    for ignored in content.ignored:
        yield ValidationMessage(
            field_path=f"events[{ignored.index}].name",
            description=f"{ignored.reason}: it is ignored",
            validation_code="NAME_INVALID",
        )
