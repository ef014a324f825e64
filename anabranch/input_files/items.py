"""Items read from a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from anabranch.errors import InvalidRow
from anabranch.input_files import rows
from anabranch.input_files.rows import Row
from anabranch.messages import Item

TRUE, FALSE = frozenset({"true", "1", "yes"}), frozenset({"false", "0", "no"})


class RemovedItem(Struct, frozen=True):
    """An item to remove from the catalogue."""

    item_id: str


def read_items(path: Path, delete: bool = False) -> Iterator[Item | RemovedItem]:
    """Items of a file with the columns item_id and title.

    The columns description, brand, category, price, available, domain, vectors and deleted are optional. `category` is
    a list, or text like `GROCERY > SOUP`. A row whose `deleted` is true becomes a `RemovedItem`; with `delete`, every
    row does, and item_id is the only required column. Raises `InvalidRow` with row, field and remedy.
    """
    for number, row in rows.read(path):
        if number == 1:
            rows.require_columns(path, row, ("item_id",) if delete else ("item_id", "title"))
        try:
            yield _removed_item(row) if delete or _flag(row, "deleted", default=False) else _item(row)
        except (ValueError, msgspec.ValidationError) as error:
            raise InvalidRow(str(path), number, f"{error}; correct the row, or leave it out") from error


def _removed_item(row: Row) -> RemovedItem:
    item_id = rows.text(row.get("item_id"))
    if item_id is None:
        raise ValueError("item_id is empty")
    return RemovedItem(item_id)


def _item(row: Row) -> Item:
    fields = rows.texts(row, ("item_id", "title", "description", "brand", "domain"))
    fields["category"] = _category(row.get("category"))
    fields["available"] = _flag(row, "available", default=True)
    if rows.text(row.get("price")) is not None:
        fields["price"] = _price(row["price"])
    if isinstance(row.get("vectors"), dict):
        fields["vectors"] = row["vectors"]
    return msgspec.convert(fields, Item)


def _category(value: Any) -> list[str]:
    levels = value if isinstance(value, list) else (rows.text(value) or "").split(">")
    return [level.strip() for level in map(str, levels) if level.strip()]


def _price(value: Any) -> float:
    try:
        return float(value)
    except ValueError as error:
        raise ValueError(f"price {value!r} is not a number") from error


def _flag(row: Row, name: str, default: bool) -> bool:
    value = rows.text(row.get(name))
    if value is None:
        return default
    if value.lower() in TRUE | FALSE:
        return value.lower() in TRUE
    raise ValueError(f"{name} {value!r} is neither true nor false")
