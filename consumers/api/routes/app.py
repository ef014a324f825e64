"""The API as an ASGI application."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette

from anabranch.http.application import application, cors
from anabranch.loop_status import LoopStatus
from consumers.api.routes.endpoints import Endpoints
from consumers.api.routes.operations import API
from consumers.api.routes.route_groups import RouteGroup


def create_app(
    endpoints: Endpoints, status: LoopStatus, origins: Sequence[str], groups: Sequence[RouteGroup] = ()
) -> Starlette:
    """`origins`: from which web pages browsers may ask, such as https://shop.example. `groups`: further routes."""
    of_browsers = cors(origins, ["GET", "POST", "PUT", "DELETE"], ["Authorization", "Content-Type", "Last-Event-ID"])
    middleware = [of_browsers] if origins else []  # it costs every request some time
    return application(API, endpoints.routes(groups), status, middleware)
