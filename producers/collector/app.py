"""The collector as an ASGI application."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.routing import Route

from anabranch.http.application import application, cors
from anabranch.loop_status import LoopStatus
from producers.collector.tracker_script import TrackerScript

HEADERS = ("Authorization", "Content-Encoding", "Content-Type")


def create_app(event_routes: Sequence[Route], status: LoopStatus, origins: Sequence[str]) -> Starlette:
    """`event_routes`: as `producers.collector.routes` makes them. `origins`: from which web pages browsers may send
    events, such as https://shop.example."""
    routes = [*event_routes, Route("/tracker.js", TrackerScript().get)]
    return application(routes, status, [cors(origins, ["POST"], HEADERS)])
