"""Rows of a parquet, CSV or JSONL file, streamed, and the conversion of their cells."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from anabranch.errors import InvalidRow, UsageError

Row = dict[str, Any]
PARQUET_BATCH_ROWS = 16_384
MIN_MS = 100_000_000_000
"""A time in 1973, in ms. A smaller number is taken for seconds since 1970, and refused."""


def read(path: Path) -> Iterator[tuple[int, Row]]:
    """(row number, row) for every row. Numbers start at 1 and do not count the header.

    The file name's extension gives the format. Raises `UsageError` if the file cannot be read, `InvalidRow` if a JSONL
    line is not an object.
    """
    readers: dict[str, Callable[[Path], Iterable[Row]]] = {
        ".parquet": _parquet,
        ".csv": _csv,
        ".jsonl": _jsonl,
        ".ndjson": _jsonl,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"{path}: unknown file format. Name it .parquet, .csv or .jsonl")
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file")
    return enumerate(reader(path), start=1)


def require_columns(path: Path, row: Row, names: Iterable[str]) -> None:
    """Raises `UsageError`, which lists the columns, unless the row has all of these."""
    missing = [name for name in names if name not in row]
    if missing:
        raise UsageError(f"{path} has no column {', '.join(missing)}; it has {', '.join(row)}. Rename them to match")


def text(value: Any) -> str | None:
    """A cell as text, None if it is empty. A whole float, which pandas makes of integers, loses its decimal point."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def texts(row: Row, names: Iterable[str]) -> dict[str, Any]:
    """The named cells that are not empty, as text."""
    return {name: value for name in names if (value := text(row.get(name))) is not None}


def milliseconds(value: Any) -> int:
    """A cell as milliseconds since 1970, UTC. Accepts that number, a `datetime`, or ISO 8601 text (UTC by default).

    Raises `ValueError` with the remedy.
    """
    if isinstance(value, datetime):
        return _from_datetime(value)
    content = text(value)
    if content is None:
        raise ValueError("is empty; give milliseconds since 1970 or ISO 8601")
    try:
        number = int(content)
    except ValueError:
        return _from_iso(content)
    if 0 < number < MIN_MS:
        raise ValueError(f"{number} looks like seconds; give milliseconds since 1970, UTC")
    return number


def _from_iso(content: str) -> int:
    try:
        return _from_datetime(datetime.fromisoformat(content))
    except ValueError as error:
        raise ValueError(f"{content!r} is not a time; give milliseconds since 1970 or ISO 8601") from error


def _from_datetime(moment: datetime) -> int:
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        for batch in pq.ParquetFile(path).iter_batches(PARQUET_BATCH_ROWS):
            yield from batch.to_pylist()
    except pa.ArrowException as error:
        raise UsageError(f"{path} cannot be read as parquet: {error}") from error


def _csv(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            yield from csv.DictReader(file)
        except (UnicodeDecodeError, csv.Error) as error:
            raise UsageError(f"{path} cannot be read as CSV in UTF-8: {error}") from error


def _jsonl(path: Path) -> Iterator[Row]:
    decoder = msgspec.json.Decoder(dict[str, Any])
    with path.open("rb") as file:
        lines = (line for line in file if not line.isspace())
        for number, line in enumerate(lines, start=1):
            try:
                yield decoder.decode(line)
            except msgspec.DecodeError as error:
                raise InvalidRow(str(path), number, f"not a JSON object: {error}") from error
