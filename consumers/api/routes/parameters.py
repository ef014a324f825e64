"""The parameters and bodies of requests, decoded and checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from http import HTTPStatus
from typing import TypeVar

import msgspec
from msgspec import Struct

from anabranch.field_types import Identifier
from anabranch.http.messages.serving import MAX_ITEMS
from anabranch.http.problems import HttpProblem

MAX_EXPLAINED = 20
"""Items of an answer with reasons: each takes as long as some thousand candidates."""
NULL = "null"
"""msgspec would read it as if the parameter were left out."""
Parameters = TypeVar("Parameters", bound=Struct)


def from_query_string(pairs: Iterable[tuple[str, str]], kind: type[Parameters]) -> Parameters:
    """The parameters of a query string. Raises `HttpProblem` (400), which names the parameter."""
    repeated = _repeated_names(kind)
    values: dict[str, str | list[str]] = {}
    for name, value in pairs:
        if name in repeated:
            values.setdefault(name, []).append(value)  # type: ignore[union-attr]
        elif name in values:
            raise HttpProblem(HTTPStatus.BAD_REQUEST, f"the parameter {name} is given twice: give it once")
        elif value == NULL:
            raise HttpProblem(HTTPStatus.BAD_REQUEST, f"the parameter {name} is {NULL}: leave it out")
        else:
            values[name] = value
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(str(error), "the parameters", kind) from error


@cache
def _repeated_names(kind: type[Struct]) -> frozenset[str]:
    """The parameters that may be repeated. Looking at the types of all fields takes as long as an answer."""
    return frozenset(field.name for field in msgspec.structs.fields(kind) if field.default == ())


def require_identifiers(path_parameters: Mapping[str, str]) -> None:
    """Raises `HttpProblem` (400), which names the parameter, for what no user and no item has as its id."""
    for name, identifier in path_parameters.items():
        try:
            msgspec.convert(identifier, Identifier)
        except msgspec.ValidationError as error:
            raise HttpProblem(
                HTTPStatus.BAD_REQUEST,
                f"{name} is not an id: {error}. An id has 1 to 512 characters, none of them a control character",
            ) from error


def from_body(body: bytes, kind: type[Parameters]) -> Parameters:
    """The body of a request, JSON. Raises `HttpProblem` (400), which names the field."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _invalid(str(error), "the body", kind) from error


def require_within(limit: int, offset: int) -> None:
    """Raises `HttpProblem` (400) for items beyond the `MAX_ITEMS` that are ranked."""
    if limit + offset > MAX_ITEMS:
        raise HttpProblem(
            HTTPStatus.BAD_REQUEST, f"offset + limit is {offset + limit}: only the best {MAX_ITEMS} items are ranked"
        )


def placement_named(name: str | None, placements: Sequence[str]) -> str:
    """The placement of this name; None: the first. Raises `HttpProblem` (400) if there is none."""
    if name is None:
        return placements[0]
    if name not in placements:
        there_are = ", ".join(placements)
        raise HttpProblem(HTTPStatus.BAD_REQUEST, f"there is no placement {name!r}; there are: {there_are}")
    return name


def require_explainable(limit: int) -> None:
    """Raises `HttpProblem` (400) for more items than are explained at once."""
    if limit > MAX_EXPLAINED:
        raise HttpProblem(
            HTTPStatus.BAD_REQUEST,
            f"limit is {limit}: with `explain`, it is {MAX_EXPLAINED} at most; `offset` brings the items after those",
        )


def _invalid(reason: str, what: str, kind: type[Struct]) -> HttpProblem:
    names = ", ".join(field.name for field in msgspec.structs.fields(kind))
    return HttpProblem(HTTPStatus.BAD_REQUEST, f"{what} cannot be read: {reason}. There are: {names}")
