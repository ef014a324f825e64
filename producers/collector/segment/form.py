"""The form of Segment's HTTP tracking API: `POST /v1/batch`, `/v1/track`, `/v1/page`, `/v1/identify`, `/v1/alias`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec
from msgspec import Raw, Struct
from starlette.requests import Request
from starlette.responses import Response

from anabranch.http.access import AccessControl
from anabranch.http.messages.collector import RefusedEvent
from anabranch.http.responses import json_response
from producers.collector.forms import form
from producers.collector.forms.form import Authorization, IgnoredEvent, Reception, RequestContent
from producers.collector.forms.json_body import decode_json
from producers.collector.forms.limits import CollectorLimits
from producers.collector.forms.media_types import JSON
from producers.collector.forms.shop_names import ShopNames
from producers.collector.segment.content import SegmentReader
from producers.collector.segment.message import KeyedBody, SegmentBatch

BATCH_BYTES = 512_000
MESSAGE_BYTES = 32_768
"""Of Segment's documentation: 500 KB a batch, 32 KB a call."""
BATCH_REMEDY = "Send an object with `batch`, a list of calls"
CALL_REMEDY = "Send one call as a JSON object"
_keyed = msgspec.json.Decoder(KeyedBody)
_batch = msgspec.json.Decoder(SegmentBatch)
_call = msgspec.json.Decoder(Raw)


class SegmentAnswer(Struct, frozen=True, kw_only=True):
    """What became of the calls of a request."""

    success: bool = True
    taken: int
    """Events that are published: an order becomes one for each product."""
    identities: int
    """Those that are published."""
    refused: list[RefusedEvent]
    ignored: list[IgnoredEvent]


class SegmentForm:
    """See `Form`. As Segment does, it answers 200 whatever the calls of a readable body are."""

    media_types: Sequence[str] = (JSON,)
    publishes = True

    def __init__(self, limits: CollectorLimits, names: ShopNames, call: str | None = None) -> None:
        """`call`: what a body is; None: a batch of calls."""
        self._limits = limits.at_most(MESSAGE_BYTES)
        self._names = names
        self._call = call
        self.max_body_bytes = min(limits.body_bytes, BATCH_BYTES) if call is None else self._limits.event_bytes

    def authorize(self, request: Request, access: AccessControl) -> Authorization:
        """By the write key, as the user name of basic authentication or as a bearer token; without the header
        `Authorization`, by `writeKey` in the body. Where there are both, the header counts: it is known before a body
        is read."""
        if "authorization" in request.headers or not access.needs_key:
            return form.authorize_by_header(request, access)
        return partial(self._authorize_by_body, access)

    def _authorize_by_body(self, access: AccessControl, body: bytes) -> str | None:
        keyed = decode_json(_keyed, body, BATCH_REMEDY if self._call is None else CALL_REMEDY)
        return access.require_key(keyed.write_key or None, "events:write")

    def read(self, body: bytes, reception: Reception) -> RequestContent:
        """Raises `HttpProblem`: 400 if the body is no JSON or has no `batch`, 413 if it has too many events."""
        if self._call is not None:
            payloads = [bytes(decode_json(_call, body, CALL_REMEDY))]
            return SegmentReader(self._names, self._limits, reception.received_ms).read(payloads, self._call)
        batch = decode_json(_batch, body, BATCH_REMEDY)
        reader = SegmentReader(self._names, self._limits, reception.received_ms, batch.sent_at)
        return reader.read([bytes(raw) for raw in batch.batch])

    def answer(self, content: RequestContent) -> Response:
        """200, and what became of each call."""
        answer = SegmentAnswer(
            taken=len(content.events),
            identities=len(content.identities),
            refused=content.refused,
            ignored=content.ignored,
        )
        return json_response(answer)
