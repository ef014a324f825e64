"""Groups of routes, added to those of `Endpoints`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from anabranch.http.operations import Input, Operation, OperationRoute


class AddRoute(Protocol):
    """Makes a route whose requests need a key of the operation's scope, and whose answers are counted."""

    def __call__(
        self, operation: Operation[Input], respond: Callable[[Request, Input], Awaitable[Response]]
    ) -> OperationRoute:
        """The route of an operation, answered by `respond`, which gets the parameters or the body too."""


class RouteGroup(Protocol):
    """Routes that belong together."""

    def routes(self, route: AddRoute) -> Sequence[OperationRoute]:
        """The routes, made by `route`."""
