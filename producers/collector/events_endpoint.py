"""`POST /v1/events`."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from http import HTTPStatus

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from anabranch.http.access import AccessControl
from anabranch.http.admission import Admission, Ticket
from anabranch.http.problems import HttpProblem, unavailable
from anabranch.http.request_body import read_body
from anabranch.http.responses import problem_response
from anabranch.throttle import FailureLog
from producers.collector.event_publisher import EventPublisher
from producers.collector.limits import CollectorLimits
from producers.collector.metrics import CollectorMetrics
from producers.collector.request_events import JSON, RequestEvents, parse, require_media_type

ACKNOWLEDGED_WITHIN_S = 10.0
"""Within this time the broker has to acknowledge the events of a request."""
REPORT_SLACK_S = 2.0
"""So much later the producer has reported in any case."""
RETRY_AFTER_S = 5
log = logging.getLogger(__name__)


class EventsEndpoint:
    """Takes events: it answers 202 once the broker has acknowledged all that are valid."""

    def __init__(
        self,
        access: AccessControl,
        limits: CollectorLimits,
        admission: Admission,
        publisher: EventPublisher,
        metrics: CollectorMetrics,
    ) -> None:
        self._access = access
        self._limits = limits
        self._admission = admission
        self._publisher = publisher
        self._metrics = metrics
        self._unacknowledged = FailureLog(log, "requests with events that were not acknowledged")
        metrics.watch(admission)

    async def post(self, request: Request) -> Response:
        """Answer one request, and count the answer."""
        status = HTTPStatus.INTERNAL_SERVER_ERROR
        try:
            response = await self._answer(request)
            status = HTTPStatus(response.status_code)
            return response
        except HttpProblem as problem:
            status = problem.status
            return problem_response(problem)
        finally:
            self._metrics.answered(status)

    async def _answer(self, request: Request) -> Response:
        self._access.require(request.headers.get("authorization"), "events:write")
        ticket = self._admission.enter()
        try:
            parsed = await self._read(request, ticket)
            started_at_s = time.perf_counter()
            delivery = self._publisher.publish(parsed.events)
        except BaseException:
            ticket.release()
            raise
        delivery.add_done_callback(partial(self._on_report, ticket))
        await self._acknowledged(delivery, len(parsed.events))
        self._metrics.acknowledged_s.observe(time.perf_counter() - started_at_s)
        answer = {"taken": len(parsed.events), "refused": parsed.refused}
        return Response(msgspec.json.encode(answer), HTTPStatus.ACCEPTED, media_type=JSON)

    async def _read(self, request: Request, ticket: Ticket) -> RequestEvents:
        """At least one valid event. Raises `HttpProblem`."""
        headers = request.headers
        media_type = require_media_type(headers.get("content-type"), headers.get("content-encoding"))
        body = await read_body(request.stream(), headers.get("content-length"), self._limits.body_bytes, ticket)
        parsed = parse(body, media_type, self._limits)
        self._metrics.refused.inc(len(parsed.refused))
        if not parsed.events:
            raise HttpProblem(
                HTTPStatus.BAD_REQUEST,
                "no event of the request is valid: `refused` says why",
                members={"taken": 0, "refused": parsed.refused},
            )
        return parsed

    async def _acknowledged(self, delivery: asyncio.Future[None], events: int) -> None:
        """Raises `HttpProblem` (503) if the broker does not acknowledge the events in time."""
        await asyncio.wait((delivery,), timeout=ACKNOWLEDGED_WITHIN_S + REPORT_SLACK_S)
        if delivery.done() and delivery.exception() is None:
            self._metrics.taken.inc(events)
            return
        self._metrics.unacknowledged.inc(events)
        raise unavailable(
            "the broker has not acknowledged the events, so they do not count as taken: send the same request again, "
            "with the same event_ids, so that what did arrive counts once",
            RETRY_AFTER_S,
        )

    def _on_report(self, ticket: Ticket, delivery: asyncio.Future[None]) -> None:
        """What is on its way to the broker takes memory until the producer reports of it, whoever still waits."""
        ticket.release()
        error = delivery.exception()
        if error is not None:
            self._unacknowledged.failed(error)
