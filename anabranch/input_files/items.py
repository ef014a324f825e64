"""Items read from files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from anabranch.input_files.cells import category_path, flag, plain_text, price
from anabranch.input_files.columns import ITEM_ALIASES
from anabranch.input_files.faults import RowFault
from anabranch.input_files.rows import Cells
from anabranch.input_files.table import Fields, Given, Table, columns_in
from anabranch.messages import Item

IDS = ("item_id", "domain")
TEXTS = ("title", "description", "brand")


class RemovedItem(Struct, frozen=True):
    """An item to remove from the catalogue."""

    item_id: str


def newest_items(rows: Iterable[Item | RemovedItem]) -> list[Item]:
    """The catalogue after all rows: the last row of an id counts, as on the topic `items`."""
    newest: dict[str, Item | RemovedItem] = {}
    for row in rows:
        newest.pop(row.item_id, None)
        newest[row.item_id] = row
    return [row for row in newest.values() if isinstance(row, Item)]


class ItemFile:
    """A file of items, or a folder of parts."""

    def __init__(self, table: Table, columns: Given | None = None) -> None:
        """Raises `UsageError`, with the columns, if a needed one is missing."""
        self._table = table
        self._fields = Fields(table, ITEM_ALIASES, IDS, columns or {})
        self._fields.require(("item_id",))

    @classmethod
    def among(cls, table: Table, columns: Given) -> ItemFile:
        """One of several files: the given columns may be of any of them. Raises `UsageError`."""
        return cls(table, columns_in(table, columns, ITEM_ALIASES))

    @classmethod
    def open(cls, path: Path, columns: Given | None = None, encoding: str | None = None) -> ItemFile:
        """Reads all rows once. Raises `UsageError`."""
        return cls(Table.open(path, encoding), columns)

    @property
    def has_titles(self) -> bool:
        """Whether there is a column of titles. A file without one can only remove items."""
        return "title" in self._fields.columns

    def read(self, delete: bool = False) -> Iterator[Item | RemovedItem | RowFault]:
        """The items in the order of the rows, and the rows that are none.

        A row whose `deleted` is true becomes a `RemovedItem`; with `delete`, every row does. Raises `UsageError` if
        items have no titles.
        """
        if not delete:
            self._fields.require(("title",))
        for row in self._table.rows():
            if isinstance(row, RowFault):
                yield row
                continue
            try:
                yield self._item(row.cells, delete)
            except (ValueError, msgspec.ValidationError) as error:
                yield RowFault(row.location, str(error))

    def notes(self) -> list[str]:
        """How the file is read, one line per fact."""
        return self._fields.notes()

    def _item(self, cells: Cells, delete: bool) -> Item | RemovedItem:
        item_id = self._fields.id(cells, "item_id")
        if item_id is None:
            raise ValueError(f"{self._fields.columns.column('item_id')} is empty")
        if delete or self._fields.value(cells, "deleted", partial(flag, default=False)):
            return RemovedItem(item_id)
        fields: dict[str, Any] = {"item_id": item_id, "domain": self._fields.id(cells, "domain")}
        fields |= {name: self._fields.value(cells, name, plain_text) for name in TEXTS}
        fields["category"] = self._fields.value(cells, "category", category_path)
        fields["price"] = self._fields.value(cells, "price", price)
        fields["available"] = self._fields.value(cells, "available", partial(flag, default=True))
        fields["vectors"] = self._fields.columns.get(cells, "vectors") or {}
        fields["title"] = fields["title"] or self._title_of_other_texts(fields)
        return msgspec.convert(fields, Item)

    def _title_of_other_texts(self, fields: dict[str, Any]) -> str:
        """An item needs some text, by which it is found before anybody has bought it."""
        if not (fields["description"] or fields["brand"] or fields["category"]):
            raise ValueError(f"{self._fields.columns.column('title')} is empty, and there is no other text")
        return ""
