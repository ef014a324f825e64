"""Under which paths events are taken, and in which form."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from producers.collector.forms.beacon_form import BeaconForm
from producers.collector.forms.events_form import EventsForm
from producers.collector.forms.form import Form
from producers.collector.forms.limits import CollectorLimits
from producers.collector.forms.shop_names import ShopNames
from producers.collector.ga4.form import Ga4DebugForm, Ga4Form
from producers.collector.request_handler import RequestHandler
from producers.collector.segment.content import CALLS
from producers.collector.segment.form import SegmentForm


def event_routes(
    handler: RequestHandler, limits: CollectorLimits, names: ShopNames, origins: Sequence[str]
) -> list[Route]:
    """The routes of all forms. `origins`: those of the pages that may send beacons."""
    forms: dict[str, Form] = {
        "/v1/events": EventsForm(limits, names.event_types),
        "/v1/beacon": BeaconForm(limits, names.event_types, origins),
        "/v1/batch": SegmentForm(limits, names),
        **{f"/v1/{call}": SegmentForm(limits, names, call) for call in CALLS},
        "/mp/collect": Ga4Form(limits, names),
        "/debug/mp/collect": Ga4DebugForm(limits, names),
    }
    return [_route(path, form, handler) for path, form in forms.items()]


def _route(path: str, form: Form, handler: RequestHandler) -> Route:
    async def post(request: Request) -> Response:
        return await handler.handle(form, request)

    return Route(path, post, methods=["POST"])
