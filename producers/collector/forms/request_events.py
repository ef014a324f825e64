"""The body of a request, as the events that it holds and the reasons for those that are refused. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

import msgspec
from msgspec import Raw

from anabranch.http.problems import HttpProblem
from anabranch.messages import InvalidMessage
from producers.collector.forms.event_decoder import EventDecoder
from producers.collector.forms.form import RequestContent
from producers.collector.forms.json_body import decode_json
from producers.collector.forms.limits import CollectorLimits, too_many_events
from producers.collector.forms.media_types import NDJSON
from producers.collector.forms.refusal import refused, too_large

REMEDY = f"Send an event or a list of events; an event a line needs the media type {NDJSON[0]}"
_value = msgspec.json.Decoder(Raw)
_list = msgspec.json.Decoder(list[Raw])


def parse(body: bytes, media_type: str, limits: CollectorLimits, decoder: EventDecoder) -> RequestContent:
    """The events of a body in one of the media types of `EventsForm`.

    Raises `HttpProblem`: 400 if the body is no JSON or has no event, 413 if it has too many.
    """
    content = RequestContent()
    for index, payload in enumerate(_payloads(body, media_type, limits)):
        if len(payload) > limits.event_bytes:
            content.refused.append(too_large(index, limits.event_bytes))
            continue
        try:
            content.events.append(decoder.decode(payload))
        except InvalidMessage as error:
            content.refused.append(refused(index, error.reason))
    return content


def _payloads(body: bytes, media_type: str, limits: CollectorLimits) -> Sequence[bytes]:
    """The bytes of every event."""
    payloads = _lines(body) if media_type in NDJSON else _values(body)
    if not payloads:
        raise HttpProblem(HTTPStatus.BAD_REQUEST, "the body has no event: send one at least")
    if len(payloads) > limits.events:
        raise too_many_events(limits.events)
    return payloads


def _lines(body: bytes) -> list[bytes]:
    """The lines that are not blank. One that is no JSON is refused alone, as an event."""
    return [line for line in map(bytes.strip, body.split(b"\n")) if line]


def _values(body: bytes) -> list[bytes]:
    """The elements of a JSON list, or the JSON value that is none."""
    if body.lstrip()[:1] == b"[":
        return [bytes(raw) for raw in decode_json(_list, body, REMEDY)]
    return [bytes(decode_json(_value, body, REMEDY))]
