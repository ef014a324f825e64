"""The collector as an ASGI application."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette

from anabranch.http.application import application, cors
from anabranch.http.operations import OperationRoute
from anabranch.loop_status import LoopStatus
from producers.collector import operations
from producers.collector.tracker_script import TrackerScript

HEADERS = ("Authorization", "Content-Encoding", "Content-Type")


def create_app(event_routes: Sequence[OperationRoute], status: LoopStatus, origins: Sequence[str]) -> Starlette:
    """`event_routes`: as `producers.collector.routes` makes them. `origins`: from which web pages browsers may send
    events, such as https://shop.example."""
    routes = [*event_routes, OperationRoute(operations.TRACKER, TrackerScript().get)]
    return application(operations.API, routes, status, [cors(origins, ["POST"], HEADERS)])
