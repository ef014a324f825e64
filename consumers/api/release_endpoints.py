"""The route of releases, for operators."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from anabranch.http.admission import Admission
from anabranch.http.responses import json_response
from consumers.api.parameters import from_query_string
from consumers.api.release_list import ReleaseList, ReleaseListParameters
from consumers.api.route_groups import AddRoute


class ReleaseEndpoints:
    """Answers without the user states, so also before they are restored."""

    def __init__(self, admission: Admission, releases: ReleaseList) -> None:
        self._admission = admission
        self._releases = releases

    def routes(self, route: AddRoute) -> Sequence[Route]:
        """See `RouteGroup`."""
        return [route("/v1/releases", "GET", self._list, scope="admin")]

    async def _list(self, request: Request) -> Response:
        parameters = from_query_string(request.query_params.multi_items(), ReleaseListParameters)
        ticket = self._admission.enter()
        try:
            return json_response(await asyncio.to_thread(self._releases.newest, parameters.limit))
        finally:
            ticket.release()
