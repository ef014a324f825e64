"""Groups of routes, added to those of `Endpoints`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from anabranch.http.api_keys import Scope


class AddRoute(Protocol):
    """Makes a route whose requests need a key of the scope, and whose answers are counted."""

    def __call__(
        self, path: str, method: str, respond: Callable[[Request], Awaitable[Response]], scope: Scope = ...
    ) -> Route:
        """The route of a path and a method, answered by `respond`."""


class RouteGroup(Protocol):
    """Routes that belong together."""

    def routes(self, route: AddRoute) -> Sequence[Route]:
        """The routes, made by `route`."""
