"""An ASGI application with what all of ours have: probes, problems for every error, and answers to browsers (CORS)."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute

from anabranch.http.responses import exception_handlers, probes
from anabranch.loop_status import LoopStatus
from anabranch.settings import Settings

PREFLIGHT_MAX_AGE_S = 3_600
"""How long a browser may keep the answer to a preflight request."""


def application(routes: Sequence[BaseRoute], status: LoopStatus, middleware: Sequence[Middleware]) -> Starlette:
    """These routes, and the probes of the process."""
    app = Starlette(
        routes=[*routes, *probes(status)],
        middleware=middleware,
        exception_handlers=dict(exception_handlers()),
    )
    app.router.redirect_slashes = False  # many clients do not send a body again
    return app


def cors(origins: Sequence[str], methods: Sequence[str], headers: Sequence[str]) -> Middleware:
    """Let web pages of these origins, such as https://shop.example, use these methods with these headers."""
    return Middleware(
        CORSMiddleware,
        allow_origins=list(origins),
        allow_methods=list(methods),
        allow_headers=list(headers),
        expose_headers=["Retry-After"],
        max_age=PREFLIGHT_MAX_AGE_S,
    )


def allowed_origins(settings: Settings) -> list[str]:
    """The origins of `Settings.allowed_origins`."""
    return [origin for origin in settings.allowed_origins.split(",") if origin]
