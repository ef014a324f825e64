"""An OpenAPI document says what its operations say."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from msgspec import Meta, Struct

from anabranch.http.openapi import ApiDescription, openapi_document
from anabranch.http.operations import Answer, Operation

SERVER = ApiDescription("shop", "A shop", "It has items.")


class Filter(Struct, frozen=True):
    """Which items."""

    colour: Annotated[str, Meta(max_length=10, description="Of the item.")]
    size: tuple[str, ...] = ()
    price: float | None = None
    limit: Annotated[int, Meta(ge=1)] = 20


class Thing(Struct, frozen=True):
    """An item."""

    name: str


LIST: Operation[Filter] = Operation(
    name="things",
    method="GET",
    path="/shops/{shop_id:id}/things",
    summary="The things of a shop",
    scope="rankings:read",
    query=Filter,
    answers={200: Answer("They are these.", list[Thing], example=[Thing("cup")])},
    problems=(400, 503),
)
ADD: Operation[Thing] = Operation(
    name="add_thing",
    method="POST",
    path="/things",
    summary="Add a thing",
    body=Thing,
    example={"name": "cup"},
    answers={204: Answer("It is added.")},
)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi_document(SERVER, [LIST, ADD])


def test_parameters_are_those_of_the_path_and_the_fields_of_the_query(document: dict[str, Any]) -> None:
    shop, *query = document["paths"]["/shops/{shop_id}/things"]["get"]["parameters"]
    assert (shop["name"], shop["in"], shop["required"]) == ("shop_id", "path", True)
    assert (shop["schema"]["minLength"], shop["schema"]["maxLength"]) == (1, 512)
    assert query == [
        {
            "name": "colour",
            "in": "query",
            "description": "Of the item.",
            "required": True,
            "schema": {"type": "string", "maxLength": 10},
        },
        {"name": "size", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}},
        {"name": "price", "in": "query", "schema": {"type": "number"}},
        {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "default": 20}},
    ]


def test_answers_and_problems_have_their_schemas(document: dict[str, Any]) -> None:
    answers = document["paths"]["/shops/{shop_id}/things"]["get"]["responses"]
    content = answers["200"]["content"]["application/json"]
    assert content["schema"] == {"type": "array", "items": {"$ref": "#/components/schemas/Thing"}}
    assert content["example"] == [{"name": "cup"}]
    assert answers["503"] == {"$ref": "#/components/responses/ServiceUnavailable"}
    busy = document["components"]["responses"]["ServiceUnavailable"]
    assert list(busy["content"]) == ["application/problem+json"]
    assert "Retry-After" in busy["headers"]
    assert set(document["components"]["responses"]) == {"BadRequest", "ServiceUnavailable"}


def test_a_key_with_a_scope_is_asked_for_where_the_operation_has_one(document: dict[str, Any]) -> None:
    assert document["paths"]["/shops/{shop_id}/things"]["get"]["security"] == [
        {"bearer": ["rankings:read"]},
        {"basic": ["rankings:read"]},
    ]
    assert "security" not in document["paths"]["/things"]["post"]
    assert set(document["components"]["securitySchemes"]) == {"bearer", "basic"}


def test_a_body_has_its_schema_and_its_example(document: dict[str, Any]) -> None:
    content = document["paths"]["/things"]["post"]["requestBody"]["content"]["application/json"]
    assert content == {"schema": {"$ref": "#/components/schemas/Thing"}, "example": {"name": "cup"}}
    assert document["paths"]["/things"]["post"]["responses"] == {"204": {"description": "It is added."}}


def test_two_operations_of_one_name_or_of_one_path_are_an_error() -> None:
    other: Operation[Thing] = Operation(name="other", method="POST", path="/things", summary="", answers={})
    with pytest.raises(ValueError, match="/things"):
        openapi_document(SERVER, [ADD, other])
    with pytest.raises(ValueError, match="add_thing"):
        openapi_document(SERVER, [ADD, ADD])
