"""The rows of a part, streamed; a row that cannot be parsed is a `RowFault`.

CSV is read with Python's own reader in strict mode, since it tells in which row a quote is not closed. Fast readers
(pyarrow, polars) read columns, and name no row for most faults. JSON lines are decoded one by one, since values of one
field may differ in type from row to row, which a reader of columns refuses.
"""

from __future__ import annotations

import csv
import io
import lzma
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec

from anabranch.errors import UsageError
from anabranch.input_files.faults import Location, RowFault
from anabranch.input_files.parts import FilePart, binary_lines

PARQUET_BATCH_ROWS = 16_384
Cells = dict[str, Any]
"""Column → value. Of CSV every value is text."""


class FileRow(NamedTuple):
    """A row of a file."""

    location: Location
    cells: Cells


def read_rows(part: FilePart) -> Iterator[FileRow | RowFault]:
    """The rows of a part. Raises `UsageError` if the file as a whole cannot be read."""
    readers = {"csv": _csv, "json": _json, "jsonl": _jsonl, "parquet": _parquet}
    try:
        yield from readers[part.format](part)
    except (OSError, EOFError, lzma.LZMAError) as error:  # of a damaged archive, too
        raise UsageError(f"{part.path} cannot be read: {error}") from error


def read_header(part: FilePart) -> list[str]:
    """The columns of a part, also if it has no rows; none if its format has no header. Raises `UsageError`."""
    if part.format == "csv":
        return _csv_header(part, _csv_reader(part))
    if part.format == "parquet":
        with _parquet_file(part) as file:
            return list(file.schema_arrow.names)
    return []


def _csv_reader(part: FilePart) -> Iterator[list[str]]:
    return csv.reader(_text_lines(part), delimiter=part.delimiter, strict=True)


def _csv_header(part: FilePart, reader: Iterator[list[str]]) -> list[str]:
    """The first line that the reader gives."""
    try:
        header = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise UsageError(f"{part.path}: the header cannot be read: {error}") from error
    repeated = {name for name in header if header.count(name) > 1}
    if repeated:
        raise UsageError(f"{part.path}: the header has the column {', '.join(sorted(repeated))} more than once")
    return header


def _csv(part: FilePart) -> Iterator[FileRow | RowFault]:
    reader = _csv_reader(part)
    header = _csv_header(part, reader)
    number = 0
    while True:
        number += 1
        location = Location(part.path.name, number)
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield RowFault(location, _csv_remedy(error))
            continue
        if not cells:
            number -= 1  # an empty line
        elif len(cells) != len(header):
            yield RowFault(
                location,
                f"{len(cells)} cells, but the header has {len(header)}; put a cell that contains {part.delimiter!r} "
                "in quotes",
            )
        else:
            yield FileRow(location, dict(zip(header, cells, strict=True)))


def _csv_remedy(error: csv.Error) -> str:
    if "end of data" in str(error) or "field larger" in str(error):
        return "a quote is opened and never closed, so that the rows after it are part of it; close it, or double it"
    return f'{error}; write a quote within quotes twice ("")'


def _text_lines(part: FilePart) -> Iterator[str]:
    """The lines as text. Raises `UsageError`, with the line, if one is not in the part's encoding."""
    if part.encoding == "utf-16":
        with part.open() as file, io.TextIOWrapper(file, encoding="utf-16", newline="") as text:
            yield from text
        return
    encoding = "utf-8" if part.encoding == "utf-8-sig" else part.encoding
    for number, line in enumerate(binary_lines(part), start=1):
        try:
            yield line.decode(encoding)
        except UnicodeDecodeError as error:
            raise UsageError(
                f"{part.path}, line {number}: byte {error.object[error.start]:#04x} is not {encoding}; spreadsheets "
                "often write --encoding cp1252"
            ) from error


def _jsonl(part: FilePart) -> Iterator[FileRow | RowFault]:
    decoder = msgspec.json.Decoder(dict[str, Any])
    lines = (line.encode() for line in _text_lines(part)) if part.encoding != "utf-8" else binary_lines(part)
    for number, line in enumerate((line for line in lines if not line.isspace()), start=1):
        location = Location(part.path.name, number)
        try:
            yield FileRow(location, decoder.decode(line))
        except msgspec.DecodeError as error:
            yield RowFault(location, f"not a JSON object: {error}")


def _json(part: FilePart) -> Iterator[FileRow | RowFault]:
    """An array of objects; the file is read as a whole."""
    text = "".join(_text_lines(part))
    if not text.strip():
        return
    try:
        rows = msgspec.json.decode(text, type=list[Any])
    except msgspec.DecodeError as error:
        raise UsageError(f"{part.path} is not a JSON array of objects: {error}") from error
    for number, cells in enumerate(rows, start=1):
        location = Location(part.path.name, number)
        yield FileRow(location, cells) if isinstance(cells, dict) else RowFault(location, "not a JSON object")


def _parquet(part: FilePart) -> Iterator[FileRow | RowFault]:
    number = 0
    with _parquet_file(part) as file:
        for batch in file.iter_batches(PARQUET_BATCH_ROWS):
            for cells in _without_nanoseconds(batch).to_pylist():
                number += 1
                yield FileRow(Location(part.path.name, number), cells)


@contextmanager
def _parquet_file(part: FilePart) -> Iterator[Any]:
    """The part as a `pyarrow.parquet.ParquetFile`. Raises `UsageError` if it is none, or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with part.open() as file:
            yield pq.ParquetFile(file)
    except pa.ArrowException as error:
        raise UsageError(f"{part.path} cannot be read as parquet: {error}") from error


def _without_nanoseconds(batch: Any) -> Any:
    """Times in microseconds: Python has no smaller unit, and needs pandas for them."""
    import pyarrow as pa

    columns = [
        column.cast(pa.timestamp("us", column.type.tz), safe=False)
        if pa.types.is_timestamp(column.type) and column.type.unit == "ns"
        else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
