"""The files behind a path: one file, or a folder of parts; compressed or not, in any of these formats and encodings."""

from __future__ import annotations

import gzip
import io
import lzma
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from anabranch.errors import UsageError

Format = Literal["csv", "json", "jsonl", "parquet"]
FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
COMPRESSIONS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ\x00": "xz"}
"""First bytes → compression. The content decides, not the name: browsers unpack files and keep the name."""
COMPRESSED_SUFFIXES = (".gz", ".zst", ".xz")
BOMS = {BOM_UTF8: "utf-8-sig", BOM_UTF16_LE: "utf-16", BOM_UTF16_BE: "utf-16"}
PARQUET_MAGIC = b"PAR1"
HEAD_BYTES = 65_536
DELIMITERS = (",", ";", "\t", "|")


@dataclass(frozen=True)
class FilePart:
    """A file, and how to read it."""

    path: Path
    format: Format
    compression: str | None
    encoding: str
    """Of CSV and JSON."""
    delimiter: str
    """Of CSV."""

    @property
    def has_header(self) -> bool:
        """Whether all its rows have the same columns."""
        return self.format in ("csv", "parquet")

    def open(self) -> IO[bytes]:
        """The decompressed content."""
        return _open(self.path, self.compression)

    def describe(self) -> str:
        """The format in words, for the user."""
        names = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
        words = {
            "csv": f"CSV separated by {names[self.delimiter]}, {self.encoding}",
            "json": f"a JSON array, {self.encoding}",
            "jsonl": f"JSON lines, {self.encoding}",
            "parquet": "parquet",
        }[self.format]
        return f"{words}, {self.compression}" if self.compression else words


def find_parts(path: Path, encoding: str | None = None) -> list[FilePart]:
    """The file, or the data files of a folder in the order of their names.

    Hidden files and those that begin with `_` (Spark writes `_SUCCESS`) are no data. `encoding` is that of text without
    a byte order mark; default: UTF-8. Raises `UsageError` if there is none, or its format is not known.
    """
    if path.is_dir():
        paths = [file for file in sorted(path.rglob("*")) if file.is_file() and not file.name.startswith((".", "_"))]
        if not paths:
            raise UsageError(f"{path}: the folder holds no data files")
    elif path.is_file():
        paths = [path]
    else:
        raise UsageError(f"{path}: there is no such file")
    return [_identify(file, encoding) for file in paths]


def _identify(path: Path, encoding: str | None) -> FilePart:
    with path.open("rb") as raw:
        magic = raw.read(8)
    compression = next((name for start, name in COMPRESSIONS.items() if magic.startswith(start)), None)
    try:
        with _open(path, compression) as file:
            head = file.read(HEAD_BYTES)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    file_format = "parquet" if head.startswith(PARQUET_MAGIC) else _format_by_name(path)
    text_encoding = next((name for bom, name in BOMS.items() if head.startswith(bom)), encoding or "utf-8")
    if file_format == "parquet":
        return FilePart(path, file_format, compression, text_encoding, ",")
    text = _decode_head(path, head, text_encoding)
    if file_format == "jsonl" and text.lstrip().startswith("["):
        file_format = "json"
    if file_format == "json" and text.lstrip().startswith("{"):
        file_format = "jsonl"
    return FilePart(path, file_format, compression, text_encoding, _delimiter(text))


def _format_by_name(path: Path) -> Format:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in COMPRESSED_SUFFIXES]
    file_format = FORMATS.get(suffixes[-1]) if suffixes else None
    if file_format is None:
        known = ", ".join(FORMATS)
        raise UsageError(f"{path}: unknown file format. Give it one of the endings {known}, also with .gz, .zst or .xz")
    return file_format


def _decode_head(path: Path, head: bytes, encoding: str) -> str:
    """The first lines. A character at the end may be cut off."""
    try:
        return head.decode(encoding, errors="replace")
    except LookupError as error:
        raise UsageError(f"{path}: {encoding!r} is no encoding; try utf-8, cp1252 or utf-16") from error


def _delimiter(text: str) -> str:
    """The one of `DELIMITERS` that the header has most of."""
    header = text.lstrip("\ufeff").split("\n", 1)[0]
    return max(DELIMITERS, key=header.count)


def _open(path: Path, compression: str | None) -> IO[bytes]:
    if compression == "gzip":
        return io.BufferedReader(gzip.open(path, "rb"))
    if compression == "xz":
        return lzma.open(path, "rb")
    if compression == "zstd":
        import pyarrow as pa

        return io.BufferedReader(pa.input_stream(str(path), compression="zstd"))
    return path.open("rb")


def binary_lines(part: FilePart) -> Iterator[bytes]:
    """The lines of a part, without the byte order mark."""
    with part.open() as file:
        for number, line in enumerate(file):
            yield line.removeprefix(BOM_UTF8) if number == 0 else line
