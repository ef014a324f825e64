"""Events read from a file, in order of time."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec

from anabranch.errors import InvalidRow, UsageError
from anabranch.input_files import rows
from anabranch.input_files.rows import Row
from anabranch.messages import Event

NumberedFields = tuple[int, dict[str, Any]]
"""Row number, and the fields of the event in that row."""


def read_events(
    path: Path, default_type: str = "purchase", sort: bool = False, limit: int | None = None
) -> Iterator[Event]:
    """At most `limit` events of a file with the columns user_id, ts, and item_id or query.

    The columns type (`default_type` where empty), session_id, domain and event_id are optional. Raises `InvalidRow`
    with row, field and remedy, also if a row is earlier than the row before it. `sort` sorts the rows by time first,
    which holds the file in memory.
    """
    numbered = _read_fields(path, default_type)
    in_order = iter(sorted(numbered, key=lambda item: item[1]["ts"])) if sort else _check_order(path, numbered)
    return itertools.islice(_to_events(path, in_order), limit)


def _read_fields(path: Path, default_type: str) -> Iterator[NumberedFields]:
    for number, row in rows.read(path):
        if number == 1:
            rows.require_columns(path, row, ("user_id", "ts"))
            if "item_id" not in row and "query" not in row:
                raise UsageError(f"{path} has neither a column item_id nor query; it has {', '.join(row)}")
        yield number, _fields(path, number, row, default_type)


def _fields(path: Path, number: int, row: Row, default_type: str) -> dict[str, Any]:
    try:
        ts = rows.milliseconds(row.get("ts"))
    except ValueError as error:
        raise InvalidRow(str(path), number, f"ts {error}") from error
    fields = rows.texts(row, ("user_id", "item_id", "query", "session_id", "domain", "event_id"))
    fields["type"] = rows.text(row.get("type")) or default_type
    return fields | {"ts": ts}


def _check_order(path: Path, numbered: Iterator[NumberedFields]) -> Iterator[NumberedFields]:
    newest_ts = 0
    for number, fields in numbered:
        if fields["ts"] < newest_ts:
            raise InvalidRow(
                str(path),
                number,
                f"ts {fields['ts']} is earlier than the row before, {newest_ts}; sort the file, or pass --sort",
            )
        newest_ts = fields["ts"]
        yield number, fields


def _to_events(path: Path, numbered: Iterator[NumberedFields]) -> Iterator[Event]:
    """Events. An event without an id gets a hash of its content, the same at every replay.

    Equal events at the same time (two of one product in a basket) get different ids, by a counter.
    """
    ts, counts = -1, Counter[str]()
    for number, fields in numbered:
        if fields["ts"] != ts:
            ts, counts = fields["ts"], Counter()
        if "event_id" not in fields:
            digest = _digest(fields)
            counts[digest] += 1
            fields["event_id"] = digest if counts[digest] == 1 else f"{digest}-{counts[digest]}"
        try:
            yield msgspec.convert(fields, Event)
        except msgspec.ValidationError as error:
            raise InvalidRow(str(path), number, f"{error}; correct the row, or leave it out") from error


def _digest(fields: dict[str, Any]) -> str:
    content = "\x1f".join(f"{name}={fields[name]}" for name in sorted(fields))
    return blake2b(content.encode(), digest_size=12).hexdigest()
