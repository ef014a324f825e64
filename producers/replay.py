"""Replay recorded events onto `events`, in order of time, as fast as asked."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
from kafka import KafkaProducer

from anabranch.errors import InvalidRow, UsageError
from anabranch.kafka import topics
from anabranch.kafka.producer import Delivery
from anabranch.messages import Event, encode
from producers import rows
from producers.pace import FULL_SPEED, Pace
from producers.rows import Row

Progress = Callable[[int], None]
NAP_S = 0.001
"""Shorter waits are not worth a system call."""


def replay(
    events: Iterable[Event],
    producer: KafkaProducer,
    topic: str,
    pace: Pace = FULL_SPEED,
    progress: Progress = lambda n: None,
) -> int:
    """Publish events, keyed by user, and wait until the broker has them all; how many they were.

    A record's own time is when it is published, for a topic is cleared by that time and latency counts from it;
    the event's `ts` is when it happened. Raises `kafka.errors.KafkaError` for what the broker refuses.
    """
    published, first_ts, started = 0, None, time.monotonic()
    with Delivery(producer, progress) as delivery:
        for event in events:
            first_ts = event.ts if first_ts is None else first_ts
            _sleep_until(started + pace.due_s(published, event.ts - first_ts))
            delivery.send(topic, topics.key(event.user_id), encode(event))
            published += 1
    return published


def read_events(
    path: Path, default_type: str = "purchase", sort: bool = False, limit: int | None = None
) -> Iterator[Event]:
    """Events of a file with columns user_id, ts and item_id (or query); type, session_id, domain and event_id if there.

    Raises `InvalidRow`, naming row, field and remedy; also for a row earlier than the one before, unless `sort`,
    which holds the file in memory.
    """
    numbered = _read_rows(path, default_type)
    in_order = iter(sorted(numbered, key=lambda one: one[1]["ts"])) if sort else _check_order(path, numbered)
    return itertools.islice(_to_events(path, in_order), limit)


def _read_rows(path: Path, default_type: str) -> Iterator[tuple[int, Row]]:
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
    names = ("user_id", "item_id", "query", "session_id", "domain", "event_id")
    fields: dict[str, Any] = {name: found for name in names if (found := rows.text(row.get(name))) is not None}
    fields["type"] = rows.text(row.get("type")) or default_type
    return fields | {"ts": ts}


def _check_order(path: Path, numbered: Iterator[tuple[int, Row]]) -> Iterator[tuple[int, Row]]:
    newest = 0
    for number, fields in numbered:
        if fields["ts"] < newest:
            raise InvalidRow(
                str(path),
                number,
                f"ts {fields['ts']} is earlier than the row before, {newest}; sort the file, or pass --sort",
            )
        newest = fields["ts"]
        yield number, fields


def _to_events(path: Path, numbered: Iterator[tuple[int, Row]]) -> Iterator[Event]:
    """Events; those without an id get one made of their content, the same at every replay.

    Equal events of one moment (two of the same thing in a basket) are told apart by their count.
    """
    moment, seen = -1, Counter[str]()
    for number, fields in numbered:
        if fields["ts"] != moment:
            moment, seen = fields["ts"], Counter()
        if "event_id" not in fields:
            digest = _digest(fields)
            seen[digest] += 1
            fields["event_id"] = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
        try:
            yield msgspec.convert(fields, Event)
        except msgspec.ValidationError as error:
            raise InvalidRow(str(path), number, f"{error}; correct the row, or leave it out") from error


def _digest(fields: dict[str, Any]) -> str:
    content = "\x1f".join(f"{name}={fields[name]}" for name in sorted(fields))
    return blake2b(content.encode(), digest_size=12).hexdigest()


def _sleep_until(due: float) -> None:
    wait = due - time.monotonic()
    if wait > NAP_S:
        time.sleep(wait)
