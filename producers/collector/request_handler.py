"""How a request to send events is served, whatever its form: access, admission, body, publication, answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from anabranch.http.access import AccessControl
from anabranch.http.admission import Admission, Ticket
from anabranch.http.content_encoding import decompress, require_encoding
from anabranch.http.problems import unavailable
from anabranch.http.rate_limit import RateLimit
from anabranch.http.request_body import read_body
from anabranch.http.responses import answered
from anabranch.throttle import FailureLog
from producers.collector.event_publisher import EventPublisher
from producers.collector.forms.form import Authorization, Form, Reception, RequestContent
from producers.collector.forms.media_types import require_media_type
from producers.collector.metrics import CollectorMetrics

ACKNOWLEDGED_WITHIN_S = 10.0
"""Within this time the broker has to acknowledge the events of a request."""
REPORT_SLACK_S = 2.0
"""So much later the producer has reported in any case."""
RETRY_AFTER_S = 5
UNAUTHORIZED_SHARE = 8
"""One in so many of the requests in flight may be one whose key is in the body that is still read: without a key,
nobody keeps others out."""
log = logging.getLogger(__name__)


def utc_ms() -> int:
    """Now, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class RequestHandler:
    """Takes events in any form: a request is answered once the broker has acknowledged all events that are valid."""

    def __init__(
        self,
        access: AccessControl,
        rate_limit: RateLimit,
        admission: Admission,
        publisher: EventPublisher,
        metrics: CollectorMetrics,
        now_ms: Callable[[], int] = utc_ms,
    ) -> None:
        self._access = access
        self._rate_limit = rate_limit
        self._admission = admission
        self._unauthorized = Admission(max(1, admission.max_requests // UNAUTHORIZED_SHARE), admission.max_bytes)
        self._publisher = publisher
        self._metrics = metrics
        self._now_ms = now_ms
        self._unacknowledged = FailureLog(log, "requests with events that were not acknowledged")
        metrics.watch(admission)

    async def handle(self, form: Form, request: Request) -> Response:
        """Answer one request in this form, and count the answer."""
        return await answered(self._answer(form, request), self._metrics.answered)

    async def _answer(self, form: Form, request: Request) -> Response:
        authorization = form.authorize(request, self._access)
        if not callable(authorization):
            self._rate_limit.charge(authorization, 0)  # before a body is read that would be refused in any case
        ticket = self._admission.enter()
        try:
            key, content = await self._read(form, request, ticket, authorization)
            self._rate_limit.charge(key, content.count)
            started_at_s = time.perf_counter()
            delivery = self._publish(form, content, ticket)
        except BaseException:
            ticket.release()
            raise
        if delivery is not None:
            await self._acknowledged(delivery, content)
            self._metrics.acknowledged_s.observe(time.perf_counter() - started_at_s)
        return form.answer(content)

    def _publish(self, form: Form, content: RequestContent, ticket: Ticket) -> asyncio.Future[None] | None:
        """A future as `EventPublisher` says, which releases the ticket; None if there is nothing to publish."""
        if form.publishes:
            self._metrics.refused.inc(len(content.refused))
            self._metrics.ignored.inc(len(content.ignored))
        if not form.publishes or not content.is_published:
            ticket.release()
            return None
        records = self._publisher.records(content.events, content.identities)
        # An order becomes an event for each product, which repeat its ids.
        ticket.raise_to(sum(len(record.value or b"") for record in records))
        delivery = self._publisher.publish(records)
        delivery.add_done_callback(partial(self._on_report, ticket))
        return delivery

    async def _read(
        self, form: Form, request: Request, ticket: Ticket, authorization: Authorization
    ) -> tuple[str | None, RequestContent]:
        """The name of the API key, and what the body holds."""
        media_type = require_media_type(request.headers.get("content-type"), form.media_types)
        if callable(authorization):
            body = await self._read_unauthorized(form, request, ticket)
            key = authorization(body)
        else:
            body, key = await self._read_body(form, request, ticket), authorization
        return key, form.read(body, Reception(media_type, self._now_ms()))

    async def _read_unauthorized(self, form: Form, request: Request, ticket: Ticket) -> bytes:
        place = self._unauthorized.enter()
        try:
            return await self._read_body(form, request, ticket)
        finally:
            place.release()

    async def _read_body(self, form: Form, request: Request, ticket: Ticket) -> bytes:
        headers = request.headers
        compressed = require_encoding(headers.get("content-encoding"))
        body = await read_body(request.stream(), headers.get("content-length"), form.max_body_bytes, ticket)
        return decompress(body, form.max_body_bytes, ticket) if compressed else body

    async def _acknowledged(self, delivery: asyncio.Future[None], content: RequestContent) -> None:
        """Raises `HttpProblem` (503) if the broker does not acknowledge the events in time."""
        await asyncio.wait((delivery,), timeout=ACKNOWLEDGED_WITHIN_S + REPORT_SLACK_S)
        if delivery.done() and delivery.exception() is None:
            self._metrics.taken.inc(len(content.events))
            self._metrics.identities.inc(len(content.identities))
            return
        self._metrics.unacknowledged.inc(len(content.events))
        raise unavailable(
            "the broker has not acknowledged the events, so they do not count as taken: send the same request again, "
            "with the same event_ids or messageIds, so that what did arrive counts once",
            RETRY_AFTER_S,
        )

    def _on_report(self, ticket: Ticket, delivery: asyncio.Future[None]) -> None:
        """What is on its way to the broker takes memory until the producer reports of it, whoever still waits."""
        ticket.release()
        error = delivery.exception()
        if error is not None:
            self._unacknowledged.failed(error)
