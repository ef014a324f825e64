"""The collector as an ASGI application."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route

from anabranch.http.responses import exception_handlers, probes
from anabranch.loop_status import LoopStatus
from producers.collector.tracker_script import TrackerScript

PREFLIGHT_MAX_AGE_S = 3_600
"""How long a browser may keep the answer to a preflight request."""


def create_app(event_routes: Sequence[Route], status: LoopStatus, origins: Sequence[str]) -> Starlette:
    """`event_routes`: as `producers.collector.routes` makes them. `origins`: from which web pages browsers may send
    events, such as https://shop.example."""
    cors = Middleware(
        CORSMiddleware,
        allow_origins=list(origins),
        allow_methods=["POST"],
        allow_headers=["Authorization", "Content-Encoding", "Content-Type"],
        expose_headers=["Retry-After"],
        max_age=PREFLIGHT_MAX_AGE_S,
    )
    app = Starlette(
        routes=[*event_routes, Route("/tracker.js", TrackerScript().get), *probes(status)],
        middleware=[cors],
        exception_handlers=dict(exception_handlers()),
    )
    app.router.redirect_slashes = False  # many clients do not send a body again
    return app
