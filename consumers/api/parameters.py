"""The parameters and bodies of requests, as queries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from http import HTTPStatus
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from anabranch.field_types import Identifier
from anabranch.http.problems import HttpProblem
from consumers.api.queries import (
    MAX_EVENTS,
    MAX_ITEMS,
    MAX_NAMED_ITEMS,
    ItemConditions,
    Limit,
    NamedItems,
    Offset,
    RecentEvent,
)

LEVELS = " > "
"""Between the names of a category path in a parameter."""
DEFAULT_LIMIT = 20
MAX_EXPLAINED = 20
"""Items of an answer with reasons: each takes as long as some thousand candidates."""
Parameters = TypeVar("Parameters", bound=Struct)
Values = Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=1024)], ...], Meta(max_length=50)]


class ConditionParameters(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Conditions in a query string; a name may be repeated: an item meets one of its values."""

    limit: Limit = DEFAULT_LIMIT
    category: Values = ()
    brand: Values = ()
    domain: Values = ()
    price_from: float | None = None
    price_below: float | None = None
    exclude: NamedItems = ()

    @property
    def conditions(self) -> ItemConditions:
        """As queries have them."""
        return ItemConditions(
            categories=tuple(path.split(LEVELS) for path in self.category),
            brands=self.brand,
            domains=self.domain,
            price_from=self.price_from,
            price_below=self.price_below,
            exclude=self.exclude,
        )


class SlateParameters(ConditionParameters, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of a user's slate."""

    placement: str | None = None
    offset: Offset = 0
    explain: bool = False
    """Whether each item has its reasons."""


class StreamParameters(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of a stream of a user's slates."""

    placement: str | None = None
    """Its name; the first of `placements` by default."""
    limit: Limit = DEFAULT_LIMIT
    """Items of a slate, at most."""


class SlateBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/recommendations`."""

    user_id: Identifier | None = None
    events: Annotated[tuple[RecentEvent, ...], Meta(max_length=MAX_EVENTS)] = ()
    placement: str | None = None
    limit: Limit = DEFAULT_LIMIT
    offset: Offset = 0
    conditions: ItemConditions = ItemConditions()
    explain: bool = False
    """Whether each item has its reasons."""


class RankBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/rank`."""

    items: Annotated[tuple[Identifier, ...], Meta(min_length=1, max_length=MAX_NAMED_ITEMS)]
    user_id: Identifier | None = None
    events: Annotated[tuple[RecentEvent, ...], Meta(max_length=MAX_EVENTS)] = ()


def from_query_string(pairs: Iterable[tuple[str, str]], kind: type[Parameters]) -> Parameters:
    """The parameters of a query string. Raises `HttpProblem` (400), which names the parameter."""
    repeated = _repeated_names(kind)
    values: dict[str, str | list[str]] = {}
    for name, value in pairs:
        if name in repeated:
            values.setdefault(name, []).append(value)  # type: ignore[union-attr]
        elif name in values:
            raise HttpProblem(HTTPStatus.BAD_REQUEST, f"the parameter {name} is given twice: give it once")
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
