"""Faults of input files: where they are, and what to do about them."""

from __future__ import annotations

from typing import NamedTuple

from anabranch.errors import UsageError


def counted(count: int, noun: str) -> str:
    """A number with its noun: 1 row, 2 rows."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


class Location(NamedTuple):
    """A row of a file. Rows count from 1, without the header and without empty lines."""

    file: str
    row: int

    def __str__(self) -> str:
        return f"{self.file}, row {self.row}"


class RowFault(NamedTuple):
    """A row that cannot be read."""

    location: Location
    reason: str
    """What is wrong, with the name of the column, and the remedy."""

    def __str__(self) -> str:
        return f"{self.location}: {self.reason}"


class FaultyFile(UsageError):
    """A file has rows that cannot be read; `faults` are the first of them."""

    SHOWN = 10

    def __init__(self, file: str, faults: list[RowFault], count: int, remedy: str) -> None:
        more = [f"  and {count - len(faults):,} more"] if count > len(faults) else []
        head = f"{counted(count, 'row')} of {file} cannot be read:"
        super().__init__("\n".join([head, *(f"  {fault}" for fault in faults), *more, remedy]))
        self.faults = tuple(faults)
        self.count = count
