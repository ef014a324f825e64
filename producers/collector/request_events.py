"""The body of a request, as the events that it holds and the reasons for those that are refused. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

import msgspec
from msgspec import Raw, Struct

from anabranch import messages
from anabranch.http.problems import HttpProblem
from anabranch.messages import Event, InvalidMessage
from producers.collector.limits import CollectorLimits
from producers.collector.refusal import RefusedEvent, refused, too_large

JSON = "application/json"
NDJSON = ("application/x-ndjson", "application/ndjson")
ACCEPTED = {"Accept": f"{JSON}, {NDJSON[0]}"}
"""What a 415 may say of the media types that would be taken (RFC 9110, 15.5.16)."""
NO_ENCODING = {"Accept-Encoding": "identity"}
_value = msgspec.json.Decoder(Raw)
_list = msgspec.json.Decoder(list[Raw])


class RequestEvents(Struct, frozen=True):
    """The valid events of a request, and why others are refused."""

    events: Sequence[Event]
    refused: Sequence[RefusedEvent]


def require_media_type(content_type: str | None, content_encoding: str | None) -> str:
    """The media type of a body that can be read. Raises `HttpProblem` (415)."""
    if content_encoding is not None and content_encoding.strip().lower() != "identity":
        raise HttpProblem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "compressed bodies are not supported yet: send the body as it is, without Content-Encoding",
            NO_ENCODING,
        )
    media_type = (content_type or JSON).partition(";")[0].strip().lower()
    if media_type != JSON and media_type not in NDJSON:
        raise HttpProblem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"the media type {media_type!r} is not supported: send an event or a list of events as {JSON}, or an event "
            f"a line as {NDJSON[0]}",
            ACCEPTED,
        )
    return media_type


def parse(body: bytes, media_type: str, limits: CollectorLimits) -> RequestEvents:
    """The events of a body in a media type that `require_media_type` returned.

    Raises `HttpProblem`: 400 if the body is no JSON or has no event, 413 if it has too many.
    """
    events: list[Event] = []
    refusals: list[RefusedEvent] = []
    for index, payload in enumerate(_payloads(body, media_type, limits)):
        if len(payload) > limits.event_bytes:
            refusals.append(too_large(index, limits.event_bytes))
            continue
        try:
            events.append(messages.events.decode(payload))
        except InvalidMessage as error:
            refusals.append(refused(index, error.reason))
    return RequestEvents(events, refusals)


def _payloads(body: bytes, media_type: str, limits: CollectorLimits) -> Sequence[bytes]:
    """The bytes of every event."""
    payloads = _lines(body) if media_type in NDJSON else _values(body)
    if not payloads:
        raise HttpProblem(HTTPStatus.BAD_REQUEST, "the body has no event: send one at least")
    if len(payloads) > limits.events:
        raise HttpProblem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the body has more than {limits.events} events: send them in several requests",
        )
    return payloads


def _lines(body: bytes) -> list[bytes]:
    """The lines that are not blank. One that is no JSON is refused alone, as an event."""
    return [line for line in map(bytes.strip, body.split(b"\n")) if line]


def _values(body: bytes) -> list[bytes]:
    """The elements of a JSON list, or the JSON value that is none."""
    try:
        if body.lstrip()[:1] == b"[":
            return [bytes(raw) for raw in _list.decode(body)]
        return [bytes(_value.decode(body))]
    except RecursionError as error:
        raise _no_json("its lists and objects are nested too deep") from error
    except msgspec.DecodeError as error:
        reason = str(error).removeprefix("JSON is malformed: ")
        raise _no_json(f"it ends at byte {len(body)}, too early" if "truncated" in reason else reason) from error


def _no_json(reason: str) -> HttpProblem:
    return HttpProblem(
        HTTPStatus.BAD_REQUEST,
        f"the body is no JSON: {reason}. Send an event or a list of events; an event a line needs the media type "
        f"{NDJSON[0]}",
    )
