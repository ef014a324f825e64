"""The generated files that are checked in are what the code says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
import msgspec
import pytest

from anabranch import schema_export
from anabranch.cli.schema import generate

DOCUMENTS = ("asyncapi.json", "openapi-collect.json", "openapi-serve.json")


@pytest.fixture(scope="module")
def documents() -> dict[str, Any]:
    return {name: msgspec.json.decode(content) for name, content in generate().items()}


def test_the_files_in_the_package_are_what_the_code_says() -> None:
    assert schema_export.outdated(generate()) == [], "run `anabranch schema`"


def references(node: object) -> Iterator[str]:
    """Every `$ref` in a document."""
    if isinstance(node, dict):
        yield from [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        for child in node.values():
            yield from references(child)
    elif isinstance(node, list):
        for child in node:
            yield from references(child)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_reference_of_a_document_leads_somewhere(name: str, documents: dict[str, Any]) -> None:
    found = set(references(documents[name]))
    assert found
    for reference in found:
        node = documents[name]
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_component_of_a_document_is_used(name: str, documents: dict[str, Any]) -> None:
    used = {reference.rpartition("/")[2] for reference in references(documents[name])}
    components = documents[name]["components"]
    assert not (components["schemas"].keys() | components.get("responses", {}).keys()) - used


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_schema_of_a_document_is_valid_json_schema(name: str, documents: dict[str, Any]) -> None:
    for schema in documents[name]["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
