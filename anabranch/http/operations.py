"""Operations: how each request of an HTTP interface is made, and how it is answered.

A route is made of its operation, and the OpenAPI document of all operations of a server.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from msgspec import Struct
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from anabranch.http.api_keys import Scope

JSON = "application/json"
TEXT = "text/plain"
CONVERTER = re.compile(r":\w+(?=})")
"""Of Starlette, behind the name of a path parameter, such as `{user_id:id}`."""
Input = TypeVar("Input", bound=Struct)
SecurityScheme = Literal["bearer", "basic", "key", "api_secret"]


class IdentifierConvertor(Convertor[str]):
    """A path parameter `{name:id}`: an id of any characters. Starlette's `path` ends at a line break, so that a request
    with one in an id would be answered as if there were no such path."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("id", IdentifierConvertor())


class NoParameters(Struct, frozen=True, forbid_unknown_fields=True):
    """Of a request that has no parameters."""


@dataclass(frozen=True)
class Answer:
    """An answer that is no problem."""

    description: str
    content: object = None
    """The type of the body; None: there is no body."""
    media_type: str = JSON
    example: object = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names, and what each says."""


@dataclass(frozen=True, kw_only=True)
class Operation(Generic[Input]):
    """A method of a path. `Input` is what a handler reads: the parameters of the query, or a JSON body."""

    name: str
    """Unique in the document: clients that are generated call their functions so."""
    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    """As Starlette has it."""
    summary: str
    answers: Mapping[int, Answer]
    problems: tuple[int, ...] = ()
    """Statuses that are answered with a problem (RFC 9457)."""
    scope: Scope | None = None
    """Of the API key; None: no key is needed."""
    security: tuple[SecurityScheme, ...] = ("bearer", "basic")
    """How a key may be sent, where there is a scope."""
    query: type[Input] | None = None
    """Parameters of the query string."""
    body: type[Input] | None = None
    """A JSON body."""
    bodies: Mapping[str, object] = field(default_factory=dict)
    """Media type → type of the body, where that is not JSON alone or no `Struct`."""
    example: object = None
    """A body."""

    @property
    def template(self) -> str:
        """The path as OpenAPI and metrics have it, such as `/v1/users/{user_id}`."""
        return CONVERTER.sub("", self.path)

    @property
    def bodies_by_media_type(self) -> Mapping[str, object]:
        """The type of the body for every media type."""
        return self.bodies if self.body is None else {JSON: self.body}


class OperationRoute(Route):
    """The route of an operation."""

    def __init__(self, operation: Operation[Input], respond: Callable[[Request], Awaitable[Response]]) -> None:
        super().__init__(operation.path, respond, methods=[operation.method])
        self.operation = operation
