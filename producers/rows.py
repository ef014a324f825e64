"""Rows of a parquet, CSV or JSONL file, one at a time, and their cells as the messages need them."""

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
CHUNK = 16_384
OLDEST_MS = 100_000_000_000
"""1973, in ms. A smaller number is a time in seconds, which would be ranked as the distant past."""


def read(path: Path) -> Iterator[tuple[int, Row]]:
    """Rows and their numbers from 1, the header left out; the file's ending says what it is.

    Raises `UsageError` for a file that cannot be read, `InvalidRow` for a line of JSONL that is no object.
    """
    readers: dict[str, Callable[[Path], Iterable[Row]]] = {
        ".parquet": _parquet,
        ".csv": _csv,
        ".jsonl": _jsonl,
        ".ndjson": _jsonl,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"{path}: what is it? Name it .parquet, .csv or .jsonl")
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file")
    return enumerate(reader(path), start=1)


def require_columns(path: Path, row: Row, names: Iterable[str]) -> None:
    """Raises `UsageError`, naming the columns there are, unless the row has these."""
    missing = [name for name in names if name not in row]
    if missing:
        raise UsageError(f"{path} has no column {', '.join(missing)}; it has {', '.join(row)}. Rename them to match")


def text(value: Any) -> str | None:
    """A cell as text: numbers as they are written, a whole float (pandas makes those) without its point."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def milliseconds(value: Any) -> int:
    """A cell as ms UTC: a number of ms, a date and time, or ISO 8601 text (UTC unless it says otherwise).

    Raises `ValueError` with the remedy.
    """
    if isinstance(value, datetime):
        return _of_datetime(value)
    written = text(value)
    if written is None:
        raise ValueError("is empty; give milliseconds since 1970 or ISO 8601")
    try:
        number = int(written)
    except ValueError:
        return _of_iso(written)
    if 0 < number < OLDEST_MS:
        raise ValueError(f"{number} looks like seconds; give milliseconds since 1970, UTC")
    return number


def _of_iso(written: str) -> int:
    try:
        return _of_datetime(datetime.fromisoformat(written))
    except ValueError as error:
        raise ValueError(f"{written!r} is no time; give milliseconds since 1970 or ISO 8601") from error


def _of_datetime(moment: datetime) -> int:
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        for batch in pq.ParquetFile(path).iter_batches(CHUNK):
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
                raise InvalidRow(str(path), number, f"no JSON object: {error}") from error
