"""An ASGI application with what all of ours have: probes, its document, problems for every error, and answers to
browsers (CORS)."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from anabranch.http.openapi import ApiDescription
from anabranch.http.operations import OperationRoute
from anabranch.http.responses import common_routes, exception_handlers
from anabranch.loop_status import LoopStatus
from anabranch.settings import Settings

PREFLIGHT_MAX_AGE_S = 3_600
"""How long a browser may keep the answer to a preflight request."""


def application(
    server: ApiDescription, routes: Sequence[OperationRoute], status: LoopStatus, middleware: Sequence[Middleware]
) -> Starlette:
    """These routes, the probes of the process, and the server's document."""
    app = Starlette(
        routes=[*routes, *common_routes(status, server.checked_in_document())],
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
