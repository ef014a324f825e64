"""The operations of an application's routes, and those of its OpenAPI document."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.routing import Route

from anabranch.http.openapi import ApiDescription
from anabranch.http.operations import CONVERTER

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def document_of(server: ApiDescription) -> dict[str, Any]:
    """The document that is checked in."""
    document: dict[str, Any] = msgspec.json.decode(server.checked_in_document())
    return document


def documented(server: ApiDescription) -> set[str]:
    """Method and path of every operation of the document."""
    paths = document_of(server)["paths"]
    return {f"{method.upper()} {path}" for path, operations in paths.items() for method in operations}


def served(app: Starlette) -> set[str]:
    """Method and path of every route. `HEAD`, which Starlette adds to `GET`, is left out."""
    routes = [route for route in app.routes if isinstance(route, Route)]
    assert len(routes) == len(app.routes), "a mount hides routes"
    return {
        f"{method} {CONVERTER.sub('', route.path)}"
        for route in routes
        for method in METHODS
        if route.methods is None or method in route.methods
    }


def require_same(app: Starlette, server: ApiDescription, remedy: str) -> None:
    """Fails, with the remedy, unless every route is documented and every documented operation has a route."""
    missing, without_route = served(app) - documented(server), documented(server) - served(app)
    assert not missing, f"not in {server.file}: {sorted(missing)}. {remedy}"
    assert not without_route, f"in {server.file}, and without a route: {sorted(without_route)}"
