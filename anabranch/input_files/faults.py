"""Faults of input files: where they are, and what to do about them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, TypeVar

from anabranch.errors import UsageError

Message = TypeVar("Message")
REMEDY = "Nothing was published. Correct these rows, or leave them out with --skip-faulty"


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

    def __init__(self, file: str, faults: Faults, remedy: str) -> None:
        head = f"{counted(faults.count, 'row')} of {file} cannot be read:"
        super().__init__("\n".join([head, *faults.lines(), remedy]))
        self.faults = tuple(faults.first)
        self.count = faults.count


@dataclass
class Faults:
    """The first faults of a file, and their number."""

    SHOWN: ClassVar[int] = 10
    first: list[RowFault] = field(default_factory=list)
    count: int = 0

    def collect(self, read: Iterable[Message | RowFault]) -> Iterator[Message]:
        """Count the faults of what is read. Yields the rest."""
        for message in read:
            if isinstance(message, RowFault):
                self._add(message)
            else:
                yield message

    def lines(self) -> list[str]:
        """The first faults, one per line, and how many more there are."""
        more = [f"  and {self.count - len(self.first):,} more"] if self.count > len(self.first) else []
        return [*(f"  {fault}" for fault in self.first), *more]

    def require_none(self, file: str, remedy: str = REMEDY) -> None:
        """Raises `FaultyFile` if there are any."""
        if self.count:
            raise FaultyFile(file, self, remedy)

    def _add(self, fault: RowFault) -> None:
        self.count += 1
        if len(self.first) < self.SHOWN:
            self.first.append(fault)
