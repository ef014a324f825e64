"""The API as an ASGI application."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from anabranch.http.responses import exception_handlers, probes
from anabranch.loop_status import LoopStatus
from consumers.api.endpoints import Endpoints

PREFLIGHT_MAX_AGE_S = 3_600
"""How long a browser may keep the answer to a preflight request."""


def create_app(endpoints: Endpoints, status: LoopStatus, origins: Sequence[str]) -> Starlette:
    """`origins`: from which web pages browsers may ask, such as https://shop.example."""
    cors = Middleware(
        CORSMiddleware,
        allow_origins=list(origins),
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type"],
        expose_headers=["Retry-After"],
        max_age=PREFLIGHT_MAX_AGE_S,
    )
    app = Starlette(
        routes=[*endpoints.routes(), *probes(status)],
        middleware=[cors] if origins else [],  # each costs every request some time
        exception_handlers=dict(exception_handlers()),
    )
    app.router.redirect_slashes = False
    return app
