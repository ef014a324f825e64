"""Under which paths events are taken, and in which form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from anabranch.http.operations import Operation, OperationRoute
from producers.collector import operations
from producers.collector.forms.beacon_form import BeaconForm
from producers.collector.forms.events_form import EventsForm
from producers.collector.forms.form import Form
from producers.collector.forms.limits import CollectorLimits
from producers.collector.forms.shop_names import ShopNames
from producers.collector.ga4.form import Ga4DebugForm, Ga4Form
from producers.collector.request_handler import RequestHandler
from producers.collector.segment.form import SegmentForm


def event_routes(
    handler: RequestHandler, limits: CollectorLimits, names: ShopNames, origins: Sequence[str]
) -> list[OperationRoute]:
    """The routes of all forms. `origins`: those of the pages that may send beacons."""
    forms: list[tuple[Operation[Any], Form]] = [
        (operations.EVENTS, EventsForm(limits, names.event_types)),
        (operations.BEACON, BeaconForm(limits, names.event_types, origins)),
        (operations.BATCH, SegmentForm(limits, names)),
        *((operation, SegmentForm(limits, names, call)) for call, operation in operations.CALLS.items()),
        (operations.GA4, Ga4Form(limits, names)),
        (operations.GA4_DEBUG, Ga4DebugForm(limits, names)),
    ]
    return [_route(operation, form, handler) for operation, form in forms]


def _route(operation: Operation[Any], form: Form, handler: RequestHandler) -> OperationRoute:
    async def post(request: Request) -> Response:
        return await handler.handle(form, request)

    return OperationRoute(operation, post)
