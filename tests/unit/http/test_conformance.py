"""Requests that Schemathesis makes of the OpenAPI documents: both servers answer as these say.

`CONFORMANCE_EXAMPLES=150` makes more requests of each operation than a run of all tests needs, and takes minutes.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import CheckFunction
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.types import ASGIApp

from anabranch.http.openapi import ApiDescription
from consumers.api.routes.operations import API as SERVE
from producers.collector.operations import API as COLLECT
from tests.support.collector_world import World
from tests.support.documented_routes import document_of, documented
from tests.support.serving_api import Api

EXAMPLES = int(os.environ.get("CONFORMANCE_EXAMPLES", "8"))
CONFORMANCE: list[CheckFunction] = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


def requests_of(server: ApiDescription) -> list[Any]:
    """Valid requests of every operation, and invalid ones where a request has a parameter or a body."""
    paths, requests = document_of(server)["paths"], []
    for operation in sorted(documented(server)):
        method, _, path = operation.partition(" ")
        has_input = paths[path][method.lower()].keys() & {"parameters", "requestBody"}
        modes = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE] if has_input else [GenerationMode.POSITIVE]
        requests += [pytest.param(operation, mode, id=f"{operation}, {mode.value}") for mode in modes]
    return requests


def run(app: ASGIApp, server: ApiDescription, operation: str, mode: GenerationMode, more: list[CheckFunction]) -> None:
    """Make requests of one operation, valid ones or invalid ones, and check every answer."""
    document = document_of(server)
    schema = schemathesis.openapi.from_dict(document, config=SchemathesisConfig())
    method, _, path = operation.partition(" ")
    described = schema[path][method]

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=described.as_strategy(generation_mode=mode))
    def answers_conform(case: Case) -> None:
        answer = case.call(app=app)
        assert answer.status_code < 500, answer.text
        case.validate_response(answer, checks=[*CONFORMANCE, *more])

    answers_conform()


@pytest.mark.parametrize(("operation", "mode"), requests_of(SERVE))
def test_the_serving_api_answers_as_its_document_says(operation: str, mode: GenerationMode, api: Api) -> None:
    run(api.app, SERVE, operation, mode, [negative_data_rejection])


@pytest.mark.parametrize(("operation", "mode"), requests_of(COLLECT))
def test_the_collector_answers_as_its_document_says(operation: str, mode: GenerationMode) -> None:
    run(World().app, COLLECT, operation, mode, [])
