"""The operations of the collector: each form of events, and the script for web pages."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from anabranch.http.messages.collector import EventsAnswer, EventsProblem, RefusedEvent
from anabranch.http.openapi import ApiDescription
from anabranch.http.operations import JSON, Answer, Operation, SecurityScheme
from anabranch.http.problems import MEDIA_TYPE as PROBLEM
from anabranch.http.responses import COMMON_OPERATIONS
from anabranch.messages import Event
from producers.collector import tracker_script
from producers.collector.forms.beacon_form import BeaconForm
from producers.collector.forms.media_types import NDJSON
from producers.collector.ga4.content import Ga4Event, Ga4Request
from producers.collector.ga4.form import ValidationReport
from producers.collector.segment import content as segment
from producers.collector.segment.form import SegmentAnswer
from producers.collector.segment.message import SegmentBatch, SegmentMessage

API = ApiDescription(
    "collect",
    "Anabranch: send events",
    "`anabranch collect` takes events, in its own form and in those of Segment and Google Analytics 4, and publishes "
    "them on the topic `events`.",
)
Lines = Annotated[str, Meta(description="An event a line, each as the schema Event has it.")]
Text = Annotated[str, Meta(description="One event or a list of events, as JSON, each as the schema Event has it.")]
EVENT = {"event_id": "e1", "user_id": "u1", "type": "view", "ts": 1700000000000, "item_id": "i42"}
REFUSED = RefusedEvent(
    index=1, field="ts", reason="Expected `int`, got `str` - at `$.ts`", remedy="give the time as milliseconds"
)
PROBLEMS = (400, 401, 403, 408, 413, 415, 429, 503)
"""Of every form."""
NONE_VALID = Answer(
    "The body cannot be read, or none of its events is valid: `refused` says why.", EventsProblem, PROBLEM
)

SCRIPT = tracker_script.MEDIA_TYPE.partition(";")[0]


class SegmentCalls(SegmentBatch, frozen=True, kw_only=True, rename="camel"):
    """The body of /v1/batch: calls, of which each says its `type`."""

    batch: list[SegmentMessage]  # type: ignore[assignment]


class Ga4Events(Ga4Request, frozen=True, kw_only=True):
    """The body of a request of the Measurement Protocol."""

    events: list[Ga4Event]  # type: ignore[assignment]


class Ga4Parameters(Struct, frozen=True, kw_only=True):
    """Beside `api_secret`, which is a security scheme."""

    measurement_id: Annotated[str, Meta(description="Is not read.")] | None = None


def _takes(name: str, path: str, summary: str, **described: Any) -> Operation[Any]:
    """An operation that takes events."""
    return Operation(
        name=name,
        method="POST",
        path=path,
        summary=summary,
        scope="events:write",
        problems=PROBLEMS,
        **described,
    )


def _segment_call(call: str) -> Operation[Any]:
    return _takes(
        f"segment_{call}",
        f"/v1/{call}",
        f"One call `{call}` of Segment's HTTP tracking API",
        bodies={JSON: SegmentMessage},
        answers={200: SEGMENT_ANSWER},
        example={"messageId": "m1", "userId": "u1", "event": "Product Viewed", "properties": {"product_id": "i42"}},
    )


def _ga4(name: str, path: str, summary: str, **described: Any) -> Operation[Any]:
    security: tuple[SecurityScheme, ...] = ("api_secret", "bearer", "basic")
    item = {"name": "view_item", "params": {"items": [{"item_id": "i42"}]}}
    return _takes(
        name,
        path,
        summary,
        security=security,
        query=Ga4Parameters,
        bodies={JSON: Ga4Events},
        example={"client_id": "1234.5678", "timestamp_micros": 1700000000000000, "events": [item]},
        **described,
    )


EVENTS = _takes(
    "send_events",
    "/v1/events",
    "Publish events",
    bodies={JSON: Event | list[Event], **dict.fromkeys(NDJSON, Lines)},
    answers={
        202: Answer(
            "The broker has the valid events; the others are `refused`.",
            EventsAnswer,
            example=EventsAnswer(taken=1, refused=[REFUSED]),
        ),
        400: NONE_VALID,
    },
    example=[EVENT],
)
BEACON = _takes(
    "send_beacon",
    "/v1/beacon",
    "Publish events of a web page that sends no preflight request",
    security=("key",),
    bodies=dict.fromkeys(BeaconForm.media_types, Text),
    answers={202: EVENTS.answers[202], 400: NONE_VALID},
)
SEGMENT_ANSWER = Answer(
    "The broker has every valid event and identity; the other calls are `refused` or `ignored`.", SegmentAnswer
)
BATCH = _takes(
    "segment_batch",
    "/v1/batch",
    "A batch of calls of Segment's HTTP tracking API",
    bodies={JSON: SegmentCalls},
    answers={200: SEGMENT_ANSWER},
    example={
        "batch": [
            {"type": "track", "userId": "u1", "event": "Product Viewed", "properties": {"product_id": "i42"}},
            {"type": "identify", "userId": "u1", "anonymousId": "a7"},
        ]
    },
)
CALLS = {call: _segment_call(call) for call in segment.CALLS}
"""By the call of Segment's spec."""
GA4 = _ga4(
    "ga4_collect",
    "/mp/collect",
    "Events of Google Analytics 4, as its Measurement Protocol has them",
    answers={204: Answer("The broker has the events that are not refused or ignored."), 400: NONE_VALID},
)
GA4_DEBUG = _ga4(
    "ga4_debug",
    "/debug/mp/collect",
    "What is wrong with events of Google Analytics 4; nothing is published",
    answers={200: Answer("A message for each event that is refused or ignored.", ValidationReport)},
)
TRACKER: Operation[Any] = Operation(
    name="tracker_script",
    method="GET",
    path="/tracker.js",
    summary="The script that sends a page's events",
    answers={
        200: Answer("The script.", str, SCRIPT, headers={"ETag": "That of this version."}),
        304: Answer("The browser has this version."),
    },
)
OPERATIONS = (EVENTS, BEACON, BATCH, *CALLS.values(), GA4, GA4_DEBUG, TRACKER, *COMMON_OPERATIONS)
"""All of the server."""
