"""The route of releases, for operators."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from anabranch.http.admission import Admission
from anabranch.http.operations import OperationRoute
from anabranch.http.responses import json_response
from consumers.api.routes import operations
from consumers.api.routes.release_list import ReleaseList, ReleaseListParameters
from consumers.api.routes.route_groups import AddRoute


class ReleaseEndpoints:
    """Answers without the user states, so also before they are restored."""

    def __init__(self, admission: Admission, releases: ReleaseList) -> None:
        self._admission = admission
        self._releases = releases

    def routes(self, route: AddRoute) -> Sequence[OperationRoute]:
        """See `RouteGroup`."""
        return [route(operations.RELEASES, self._list)]

    async def _list(self, request: Request, parameters: ReleaseListParameters) -> Response:
        with self._admission.enter():
            return json_response(await asyncio.to_thread(self._releases.newest, parameters.limit))
