"""Under which paths events are taken, and in which form."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from producers.collector.events_form import EventsForm
from producers.collector.form import Form
from producers.collector.limits import CollectorLimits
from producers.collector.request_handler import RequestHandler


def event_routes(handler: RequestHandler, limits: CollectorLimits) -> list[Route]:
    """The routes of all forms."""
    forms: dict[str, Form] = {"/v1/events": EventsForm(limits)}
    return [_route(path, form, handler) for path, form in forms.items()]


def _route(path: str, form: Form, handler: RequestHandler) -> Route:
    async def post(request: Request) -> Response:
        return await handler.handle(form, request)

    return Route(path, post, methods=["POST"])
