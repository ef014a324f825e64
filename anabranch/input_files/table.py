"""A table: the rows of all parts of a path, and the fields that are read from their columns."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from anabranch.errors import UsageError
from anabranch.input_files.cells import WholeNumbers, id_text
from anabranch.input_files.columns import Aliases, is_column, map_columns
from anabranch.input_files.faults import RowFault
from anabranch.input_files.parts import FilePart, find_parts
from anabranch.input_files.rows import FileRow, read_header, read_rows

Value = TypeVar("Value")
Given = Mapping[str, tuple[str, ...]]
"""Field → columns, as the user gave them."""


@dataclass(frozen=True)
class Table:
    """A file, or a folder of parts, whose rows have been read once."""

    path: Path
    parts: Sequence[FilePart]
    header: Sequence[str]
    """Every column of any part, in the order in which they first occur."""
    whole_with_point: Collection[str]
    """Columns whose ids lose their decimal point, see `WholeNumbers`."""

    @classmethod
    def open(cls, path: Path, encoding: str | None = None) -> Table:
        """Read all rows once. Raises `UsageError` if the file as a whole cannot be read."""
        parts = find_parts(path, encoding)
        numbers: dict[str, WholeNumbers] = {}
        for part in parts:
            before = len(numbers)
            for row in read_rows(part):
                if isinstance(row, FileRow):
                    for column, value in row.cells.items():
                        if column not in numbers:
                            numbers[column] = WholeNumbers()
                        numbers[column].add(value)
            if part.has_header and 0 < before < len(numbers):
                added = ", ".join(list(numbers)[before:])
                raise UsageError(
                    f"{part.path} has columns that the files before it do not have: {added}. The files of a folder are "
                    "parts of one table; give other files by themselves"
                )
        if not numbers:
            header = dict.fromkeys(column for part in parts for column in read_header(part))
            only = f", only the header {', '.join(header)}" if header else ""
            raise UsageError(f"{path} holds no rows{only}")
        return cls(path, parts, list(numbers), {column for column in numbers if numbers[column].drop_point})

    def rows(self) -> Iterator[FileRow | RowFault]:
        """All rows, part by part."""
        for part in self.parts:
            yield from read_rows(part)


def require_columns(given: Given, tables: Sequence[Table]) -> None:
    """Raises `UsageError` if a given column is in none of several tables."""
    for names in given.values():
        for column in names:
            if not any(is_column(column, table.header) for table in tables):
                headers = "; ".join(f"{table.path} has {', '.join(table.header)}" for table in tables)
                raise UsageError(f"--columns: there is no column {column}; {headers}")


def columns_in(table: Table, given: Given, fields: Container[str]) -> Given:
    """The given columns that are of these fields and in this table."""
    return {
        name: columns
        for name, columns in given.items()
        if name in fields and all(is_column(column, table.header) for column in columns)
    }


class Fields:
    """The fields of a table's rows. Errors of values name the column as it is in the file."""

    def __init__(self, table: Table, aliases: Aliases, ids: Collection[str], given: Given) -> None:
        """`ids` are the fields that are ids. Raises `UsageError` as `map_columns` does."""
        self._table = table
        self._ids = ids
        self.columns = map_columns(table.header, aliases, given)

    def id(self, cells: Mapping[str, Any], name: str) -> str | None:
        """An id, None if it is empty. Raises `ValueError`."""
        return self.value(cells, name, lambda value: id_text(value, self._loses_point(name)))

    def value(self, cells: Mapping[str, Any], name: str, convert: Callable[[Any], Value]) -> Value:
        """A value, converted. Raises `ValueError`."""
        try:
            return convert(self.columns.get(cells, name))
        except ValueError as error:
            raise ValueError(f"{self.columns.column(name)} {error}") from error

    def require(self, *alternatives: Sequence[str]) -> None:
        """Raises `UsageError` unless one field of each of the `alternatives` has a column."""
        self.columns.require(self._table.header, str(self._table.path), alternatives)

    def notes(self) -> list[str]:
        """How the table is read, one line per fact."""
        formats = dict.fromkeys(part.describe() for part in self._table.parts)
        count = f"{len(self._table.parts)} files, " if len(self._table.parts) > 1 else ""
        whole = [self.columns.column(name) for name in self._ids if self._loses_point(name)]
        points = [f"{column}: whole numbers, read without their decimal point" for column in whole]
        return [f"{count}{' and '.join(formats)}", *self.columns.notes(), *points]

    def _loses_point(self, name: str) -> bool:
        return any(column in self._table.whole_with_point for column in self.columns.columns.get(name, ()))
