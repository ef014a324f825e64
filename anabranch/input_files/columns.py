"""Which column of a file a field is read from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from anabranch.errors import UsageError

Aliases = Mapping[str, Sequence[str]]
"""Field → names of columns that people use for it, in lower case and without punctuation."""

EVENT_ALIASES: Aliases = {
    "user_id": ("userid", "user", "visitorid", "visitor", "customerid", "customer", "reviewerid", "clientid"),
    "item_id": ("itemid", "item", "productid", "product", "asin", "parentasin", "sku", "articleid", "stockcode"),
    "ts": ("ts", "timestamp", "timestampms", "time", "datetime", "eventtime", "date", "unixreviewtime", "tdat"),
    "type": ("type", "eventtype", "event", "eventname", "action", "behavior", "behaviour", "behaviortype"),
    "session_id": ("sessionid", "session", "usersession", "visitid"),
    "query": ("query", "searchquery", "searchterm", "keyword", "keywords"),
    "event_id": ("eventid", "messageid"),
    "domain": ("domain",),
    "quantity": ("quantity", "qty"),
}
ITEM_ALIASES: Aliases = {
    "item_id": EVENT_ALIASES["item_id"],
    "title": ("title", "name", "itemname", "productname", "producttitle", "prodname"),
    "description": ("description", "desc", "detaildesc", "productdescription"),
    "brand": ("brand", "manufacturer", "store", "vendor"),
    "category": ("category", "categories", "categorypath", "categorycode", "producttype"),
    "price": ("price", "unitprice", "saleprice"),
    "available": ("available", "availability", "isavailable", "instock"),
    "domain": ("domain",),
    "vectors": ("vectors",),
    "deleted": ("deleted", "isdeleted"),
}

FIELDS: Aliases = {**EVENT_ALIASES, **ITEM_ALIASES}
"""Of events and items together."""


@dataclass(frozen=True)
class ColumnMap:
    """Field → the columns that it is read from; the first one that is filled counts."""

    columns: Mapping[str, tuple[str, ...]]
    unread: tuple[str, ...] = field(default_factory=tuple)
    """Columns that no field is read from."""

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def get(self, cells: Mapping[str, Any], name: str) -> Any:
        """The value of a field in a row, None if it is empty or has no column."""
        for column in self.columns.get(name, ()):
            value = _look_up(cells, column)
            if value is not None and value != "":
                return value
        return None

    def column(self, name: str) -> str:
        """The columns of a field as an error message names them: as they are in the file."""
        return "|".join(self.columns.get(name, (name,)))

    def require(self, header: Sequence[str], file: str, alternatives: Iterable[Sequence[str]]) -> None:
        """Raises `UsageError` unless one field of each of the `alternatives` has a column."""
        missing = [names for names in alternatives if not any(name in self for name in names)]
        if missing:
            raise UsageError(
                f"{file} has no column {', '.join(' or '.join(names) for names in missing)}; "
                f"it has {', '.join(header) or 'none'}. Say which is meant, such as --columns {missing[0][0]}=COLUMN"
            )

    def notes(self) -> list[str]:
        """One line for every field that is read from a column of another name, and one for unread columns."""
        renamed = [
            f"{name} is read from the column {' or else '.join(columns)}"
            for name, columns in self.columns.items()
            if columns != (name,)
        ]
        return [*renamed, f"columns not read: {', '.join(self.unread)}"] if self.unread else renamed


def parse_columns(text: str | None, fields: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """FIELD=COLUMN pairs separated by commas; `A|B` reads B where A is empty. Raises `UsageError`."""
    mapping: dict[str, tuple[str, ...]] = {}
    for pair in (text or "").split(","):
        if not pair.strip():
            continue
        name, equals, columns = (part.strip() for part in pair.partition("="))
        if not equals or not columns:
            raise UsageError(
                f"--columns takes FIELD=COLUMN pairs, such as user_id=visitorid,ts=timestamp; not {pair!r}"
            )
        if name not in fields:
            raise UsageError(f"--columns: there is no field {name}; there are {', '.join(fields)}")
        mapping[name] = tuple(column.strip() for column in columns.split("|"))
    return mapping


def map_columns(header: Sequence[str], aliases: Aliases, given: Mapping[str, tuple[str, ...]]) -> ColumnMap:
    """The columns of a file by field: as given, or of the field's own name, or of a common other name.

    Where several columns have a common name, the one that is named first in `aliases` counts. Raises `UsageError` if a
    given column is not there.
    """
    columns: dict[str, tuple[str, ...]] = {}
    for name, names in given.items():
        missing = [column for column in names if not is_column(column, header)]
        if missing:
            raise UsageError(f"--columns: there is no column {', '.join(missing)}; there are {', '.join(header)}")
        columns[name] = names
    taken = {column for names in columns.values() for column in names}
    for name, alias in aliases.items():
        if name in columns:
            continue
        if name in header:
            columns[name] = (name,)
        else:
            matches = [column for column in header if column not in taken and _normalised(column) in alias]
            best = sorted(matches, key=lambda column: alias.index(_normalised(column)))
            columns |= {name: (best[0],)} if best else {}
        taken.update(columns.get(name, ()))
    read = {_top_level(column) for names in columns.values() for column in names}
    return ColumnMap(columns, tuple(column for column in header if column not in read))


def is_column(column: str, header: Sequence[str]) -> bool:
    """Whether a table with this header has a column, or the object that a path such as `product.title` starts from."""
    return _top_level(column) in header


def _top_level(column: str) -> str:
    return column.split(".")[0]


def _look_up(cells: Mapping[str, Any], column: str) -> Any:
    """The value of a column, or of a path of nested objects, such as `product.title`."""
    if column in cells:
        return cells[column]
    value: Any = cells
    for key in column.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def _normalised(column: str) -> str:
    return re.sub(r"[^a-z0-9]", "", column.lower())
