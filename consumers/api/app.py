"""The API as an ASGI application."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette

from anabranch.http.application import application, cors
from anabranch.loop_status import LoopStatus
from consumers.api.endpoints import Endpoints
from consumers.api.operations import API


def create_app(endpoints: Endpoints, status: LoopStatus, origins: Sequence[str]) -> Starlette:
    """`origins`: from which web pages browsers may ask, such as https://shop.example."""
    of_browsers = cors(origins, ["GET", "POST"], ["Authorization", "Content-Type"])
    middleware = [of_browsers] if origins else []  # it costs every request some time
    return application(API, endpoints.routes(), status, middleware)
