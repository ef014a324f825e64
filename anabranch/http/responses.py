"""Problem details as responses of Starlette, whatever went wrong, and the probes of every server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from anabranch.http.operations import JSON, TEXT, Answer, NoParameters, Operation, OperationRoute
from anabranch.http.problems import MEDIA_TYPE, HttpProblem
from anabranch.loop_status import LoopStatus

Handler = Callable[[Request, Exception], Awaitable[Response]]


def _probe_operation(path: str, summary: str) -> Operation[NoParameters]:
    return Operation(
        name=path.strip("/"),
        method="GET",
        path=path,
        summary=summary,
        answers={200: Answer("Yes.", str, TEXT), 503: Answer("No: one line says why.", str, TEXT)},
    )


HEALTHZ = _probe_operation("/healthz", "Whether the event loop turns")
READYZ = _probe_operation("/readyz", "Whether requests can be answered")
OPENAPI: Operation[NoParameters] = Operation(
    name="openapi",
    method="GET",
    path="/openapi.json",
    summary="This document",
    answers={200: Answer("An OpenAPI document.", dict[str, Any])},
)
COMMON_OPERATIONS = (HEALTHZ, READYZ, OPENAPI)
"""Of every server."""


def json_response(content: object, status: int = HTTPStatus.OK) -> Response:
    """The content, encoded by msgspec."""
    return Response(msgspec.json.encode(content), status, media_type=JSON)


async def answered(answer: Awaitable[Response], count: Callable[[HTTPStatus], None]) -> Response:
    """The answer, or the problem that it raises. `count` is called with the status, 500 for what is a defect."""
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    try:
        response = await answer
        status = HTTPStatus(response.status_code)
        return response
    except HttpProblem as problem:
        status = problem.status
        return problem_response(problem)
    finally:
        count(status)


def problem_response(problem: HttpProblem) -> Response:
    """The response that tells a client of a problem."""
    return Response(problem.body(), problem.status, dict(problem.headers), MEDIA_TYPE)


def exception_handlers() -> Mapping[type[Exception], Handler]:
    """For an application: every error is answered with a problem; one that is a defect says nothing of the request."""
    return {HttpProblem: _on_problem, HTTPException: _on_http_exception, Exception: _on_defect}


def common_routes(status: LoopStatus, openapi: bytes) -> list[OperationRoute]:
    """`/healthz` and `/readyz`: 200, or 503 with one line that says why. `/openapi.json`: the document. None needs a
    key."""

    async def health(request: Request) -> Response:
        return _probe(status.stuck)

    async def ready(request: Request) -> Response:
        return _probe(status.not_ready)

    async def document(request: Request) -> Response:
        return Response(openapi, media_type=JSON)

    return [OperationRoute(HEALTHZ, health), OperationRoute(READYZ, ready), OperationRoute(OPENAPI, document)]


def _probe(failure: str | None) -> Response:
    if failure is None:
        return PlainTextResponse("ok\n")
    return PlainTextResponse(f"{failure}\n", HTTPStatus.SERVICE_UNAVAILABLE)


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HttpProblem)
    return problem_response(error)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """Starlette raises it where no route fits."""
    assert isinstance(error, HTTPException)
    detail = {
        HTTPStatus.NOT_FOUND: "there is nothing at this path; docs/api.md lists what there is",
        HTTPStatus.METHOD_NOT_ALLOWED: "this path does not take this method; the header `Allow` lists those it takes",
    }.get(HTTPStatus(error.status_code), error.detail)
    return problem_response(HttpProblem(error.status_code, detail, error.headers or {}))


async def _on_defect(request: Request, error: Exception) -> Response:
    """Starlette raises the error again behind this answer, and uvicorn logs it."""
    return problem_response(HttpProblem(HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed; its log says why"))
