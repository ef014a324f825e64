"""The OpenAPI 3.1 document of a server, made of its operations.

Source: OpenAPI Specification 3.1.1. Its schemas are JSON Schema 2020-12, as msgspec makes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from importlib.resources import files
from typing import Any

import msgspec
from msgspec import Struct

from anabranch.field_types import Identifier
from anabranch.http import problems
from anabranch.http.operations import Answer, Operation
from anabranch.http.problems import Problem

VERSION = "3.1.1"
API_VERSION = "1"
"""That of the paths, `/v1/…`."""
REFERENCE = "#/components/schemas/{name}"
PUBLIC_KEY = "An API key with the scope events:write and no other: addresses are in logs."
SECURITY_SCHEMES: Mapping[str, Mapping[str, str]] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key. A server without api_keys_file needs none.",
    },
    "basic": {
        "type": "http",
        "scheme": "basic",
        "description": "The API key as the user name; the password is not read.",
    },
    "key": {"type": "apiKey", "in": "query", "name": "key", "description": PUBLIC_KEY},
    "api_secret": {"type": "apiKey", "in": "query", "name": "api_secret", "description": PUBLIC_KEY},
}
PROBLEMS: Mapping[int, str] = {
    400: "The request cannot be read: `detail` names the parameter or the field, and what to do.",
    401: "There is no API key, or one that is not valid.",
    403: "The API key does not have the scope, or the request must not be made so: `detail` says why.",
    404: "There is no such item, release or rule.",
    408: "The body took too long to arrive: send less at once.",
    409: "It has changed meanwhile: read it again.",
    413: "The body, or what it holds, is over its limit: `detail` names the limit.",
    415: "The media type, or the compression, is not supported: `detail` says which are.",
    429: "The API key has sent too much: send the same request again later.",
    503: "The server cannot answer now: send the same request again later.",
}
HEADERS: Mapping[int, Mapping[str, str]] = {
    401: {"WWW-Authenticate": "How to authenticate."},
    429: {"Retry-After": "Seconds after which the same request may succeed."},
    503: {"Retry-After": "Seconds after which the same request may succeed."},
}
"""Of problems, by status."""
NULL = {"type": "null"}


@dataclass(frozen=True)
class ApiDescription:
    """What the document says of a server as a whole."""

    name: str
    """That of its command."""
    title: str
    description: str

    @property
    def file(self) -> str:
        """The document's file name in the package."""
        return f"openapi-{self.name}.json"

    def checked_in_document(self) -> bytes:
        """The document as it is in this package."""
        return files("anabranch").joinpath("schemas", self.file).read_bytes()


def openapi_document(server: ApiDescription, operations: Sequence[Operation[Any]]) -> dict[str, Any]:
    """The document. Raises `ValueError` if two operations have the same name, or the same method and path."""
    for of_operation in (lambda described: described.name, lambda described: (described.method, described.template)):
        names = [of_operation(operation) for operation in operations]
        if len(set(names)) < len(names):
            raise ValueError(f"two operations are the same: {sorted(map(str, names))}")
    schemas = _Schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.template, {})[operation.method.lower()] = _operation(operation, schemas)
    used = {status for operation in operations for status in operation.problems}
    schemes = {scheme for operation in operations if operation.scope for scheme in operation.security}
    return {
        "openapi": VERSION,
        "info": {
            "title": server.title,
            "version": API_VERSION,
            "description": server.description,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "responses": {_problem_name(status): _problem(status, schemas) for status in sorted(used)},
            "securitySchemes": {name: scheme for name, scheme in SECURITY_SCHEMES.items() if name in schemes},
        },
    }


class _Schemas:
    """The schemas of all bodies and answers."""

    def __init__(self, operations: Iterable[Operation[Any]]) -> None:
        types: list[object] = [Problem]
        for operation in operations:
            types += operation.bodies_by_media_type.values()
            types += [answer.content for answer in operation.answers.values() if answer.content is not None]
        schemas, self.components = msgspec.json.schema_components(types, ref_template=REFERENCE)
        self._types, self._schemas = types, list(schemas)

    def schema(self, content: object) -> Mapping[str, Any]:
        """The schema of a type, which may refer to the components."""
        return self._schemas[self._types.index(content)]


def _operation(operation: Operation[Any], schemas: _Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {"operationId": operation.name, "summary": operation.summary}
    if operation.scope is not None:
        described["security"] = [{scheme: [operation.scope]} for scheme in operation.security]
    parameters = [*_path_parameters(operation.template), *_query_parameters(operation.query)]
    if parameters:
        described["parameters"] = parameters
    if operation.bodies_by_media_type:
        example = {} if operation.example is None else {"example": operation.example}
        content = {
            media_type: {"schema": schemas.schema(body), **(example if "json" in media_type else {})}
            for media_type, body in operation.bodies_by_media_type.items()
        }
        described["requestBody"] = {"required": True, "content": content}
    answers = {str(status): _answer(answer, schemas) for status, answer in operation.answers.items()}
    refusals = {
        str(status): {"$ref": f"#/components/responses/{_problem_name(status)}"} for status in operation.problems
    }
    described["responses"] = dict(sorted((refusals | answers).items()))
    return described


def _path_parameters(template: str) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": "Percent-encoded: it may have slashes too.",
            "schema": msgspec.json.schema(Identifier),
        }
        for name in re.findall(r"{(\w+)}", template)
    ]


def _query_parameters(query: type[Struct] | None) -> list[dict[str, Any]]:
    """A list may have its name repeated. A query has no null: it leaves the parameter out."""
    if query is None:
        return []
    ((schema,), components) = msgspec.json.schema_components([query])
    described = components[query.__name__]
    assert schema == {"$ref": f"#/$defs/{query.__name__}"}
    return [
        _query_parameter(name, dict(parameter), name in described["required"])
        for name, parameter in described["properties"].items()
    ]


def _query_parameter(name: str, schema: dict[str, Any], required: bool) -> dict[str, Any]:
    kinds = [kind for kind in schema.pop("anyOf", []) if kind != NULL]
    if len(kinds) == 1:
        schema |= kinds[0]
    elif kinds:
        schema["anyOf"] = kinds
    if schema.get("default", ...) in (None, ()):
        del schema["default"]
    description = schema.pop("description", None)
    parameter = {"name": name, "in": "query"} | ({"description": description} if description else {})
    return parameter | ({"required": True} if required else {}) | {"schema": schema}


def _answer(answer: Answer, schemas: _Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {"description": answer.description}
    if answer.headers:
        described["headers"] = _headers(answer.headers)
    if answer.content is not None:
        example = {} if answer.example is None else {"example": msgspec.to_builtins(answer.example)}
        described["content"] = {answer.media_type: {"schema": schemas.schema(answer.content), **example}}
    return described


def _problem(status: int, schemas: _Schemas) -> dict[str, Any]:
    return _answer(
        Answer(PROBLEMS[status], Problem, problems.MEDIA_TYPE, headers=HEADERS.get(status, {})),
        schemas,
    )


def _headers(headers: Mapping[str, str]) -> dict[str, Any]:
    return {name: {"description": text, "schema": {"type": "string"}} for name, text in headers.items()}


def _problem_name(status: int) -> str:
    return HTTPStatus(status).name.title().replace("_", "")
