"""Generates records as faulty and hostile producers send them: valid events, events with an error, and arbitrary bytes.

A random seed determines the records. Each takes microseconds to generate: fast enough for a million.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from kafka.consumer.fetcher import ConsumerRecord

from anabranch.codec import NESTING
from anabranch.kafka.headers import HeaderName

NOW_MS = 1_700_000_000_000
MAX_BYTES = 8192
"""The size limit to decode these records with: some are larger."""
CATALOGUE = [f"item {number}" for number in range(200)]

TOKENS = (
    *(b"null", b"true", b"0", b"-1", b"1.0", b"1.5", b"1e3", b"1e999", b"-0", b"01", b"NaN", b"-Infinity", b"9" * 5000),
    *(b"1699999999999", b"1700000060001", b"4000000000000", b"253402300799999", b"253402300800000"),
    *(b'""', b'" "', b'"a"', b'"\\u0000"', b'"a\\u001fb"', b'"\\n"', b'"\x1f"', b'"\x7f"', '"\u0085"'.encode()),
    *(
        rb'"\ud800"',
        rb'"\udc00\ud800"',
        rb'"\ud83d\ude00"',
        rb'"\q"',
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"\xf4\x90\x80\x80"',
    ),
    *('"é"'.encode(), '"e\u0301"'.encode(), '"\U0001f600"'.encode(), '"\u202e\ufeff"'.encode(), b'"\xef\xbf\xbe"'),
    *(b'"' + b"x" * size + b'"' for size in (512, 513, 4096, 4097, 10_000)),
    *(b"[]", b"{}", b"[1]", b'["a"]', b'{"a":"b"}', b'{"a":"1","a":"2"}', rb'{"a":"1","\u0061":"2"}', b'{"a":1}'),
    *(b"[" * depth + b"]" * depth for depth in (10, NESTING - 1, NESTING, 2000)),
    b"[" + b",".join([b"[" * (NESTING - 10) + b"]" * (NESTING - 10)] * 30) + b"]",
    *(b'{"a":' * 10_000, b"[" * 10_000, b'{"a":' * 50 + b"1" + b"}" * 50),
    *(b'"view"', b'"cart"', b'"purchase"', b'"search"', b'"bought"', b'"VIEW"'),
    b"{" + b",".join(b'"%d":""' % number for number in range(65)) + b"}",
    b'{"' + b"k" * 129 + b'":""}',
)
"""JSON values, and text that is almost JSON."""
NAMES = (
    b"event_id",
    b"user_id",
    b"type",
    b"ts",
    b"item_id",
    b"query",
    b"session_id",
    b"domain",
    b"context",
    b"unknown",
)
KEYS = (None, b"", b"\xff\xfe", b"u", b"u0", b"u0\x00", "é".encode(), b"k" * 10_000)
TIMES = (-1, 0, 1, NOW_MS - 1, NOW_MS, NOW_MS + 60_000, 4_000_000_000_000, 2**63 - 1, 2**64, -(2**63))
HEADERS: tuple[list[tuple[str, bytes | None]], ...] = (
    [],
    [("trace", b"1"), ("trace", b"2")],
    [("null", None), ("", b"")],
    [(HeaderName(b"\xff"), b"\x00"), ("reason", b"a producer's own")],
    [("large", b"x" * 10_000)],
)
MANY_HEADERS: list[tuple[str, bytes | None]] = [("", b"")] * 4000
"""They have no bytes, and take 8,000 in a batch."""


class OddRecords:
    """A generator of records, the same for the same random seed."""

    def __init__(self, random_seed: int) -> None:
        self._random = random.Random(random_seed)
        self._kinds: tuple[Callable[[], bytes | None], ...] = (
            *(self._valid,) * 8,
            *(self._with_an_odd_field,) * 5,
            *(self._with_odd_bytes,) * 4,
            *(self._any_json, self._any_bytes),
        )

    def take(self, count: int) -> list[ConsumerRecord]:
        """The next records, as a consumer returns them; offsets from 0."""
        return [self._record(offset) for offset in range(count)]

    def _record(self, offset: int) -> ConsumerRecord:
        draw = self._random.random
        self._user = b"u%d" % int(draw() * 300)
        value = None if draw() < 0.01 else self._random.choice(self._kinds)()
        key = self._user if draw() < 0.95 else self._random.choice(KEYS)
        appended = NOW_MS + offset if draw() < 0.9 else self._random.choice(TIMES)
        headers = [] if draw() < 0.9 else self._random.choice(HEADERS)
        if draw() < 0.0005:
            headers = MANY_HEADERS
            value = b"x" * int(draw() * MAX_BYTES) if draw() < 0.5 else value
        return ConsumerRecord("events", offset % 4, 0, offset, appended, 1, key, value, headers, None, 0, 0, 0)

    def _fields(self) -> dict[bytes, bytes]:
        """The fields of an event as JSON. Its time differs from `NOW_MS` by up to 16 years."""
        draw = self._random.random
        kind = (b'"view"', b'"cart"', b'"purchase"', b'"search"')[int(draw() * 4)]
        fields = {
            b"event_id": b'"e%d"' % int(draw() * 10_000),
            b"user_id": b'"%s"' % self._user,
            b"type": kind,
            b"ts": b"%d" % (NOW_MS + int((draw() - 0.5) * 10 ** int(draw() * 13))),
        }
        if kind == b'"search"':
            fields[b"query"] = b'"soup %d"' % int(draw() * 100)
        if kind != b'"search"' or draw() < 0.2:
            fields[b"item_id"] = b'"item %d"' % int(draw() * 250)  # 50 of them are in no catalogue
        if draw() < 0.5:
            fields[b"session_id"] = b'"s%d"' % int(draw() * 50)
        if draw() < 0.1:
            fields[b"context"] = b'{"page":"home","a:b":"\\u00e9"}'
        return fields

    def _valid(self) -> bytes:
        return _object(self._fields())

    def _with_an_odd_field(self) -> bytes:
        fields = self._fields()
        name = self._random.choice(NAMES)
        kind = self._random.random()
        if kind < 0.2:
            fields.pop(name, None)
        elif kind < 0.3:
            return _object(fields)[:-1] + b',"%s":%s}' % (name, fields.get(name, b"1"))
        else:
            fields[name] = self._random.choice(TOKENS)
        return _object(fields)

    def _with_odd_bytes(self) -> bytes:
        payload = bytearray(self._valid())
        for _ in range(self._random.choice((1, 1, 1, 2, 5))):
            start = int(self._random.random() * len(payload))
            end = start + int(self._random.random() * 8)
            kind = self._random.random()
            if kind < 0.4 and payload:
                payload[min(start, len(payload) - 1)] = int(self._random.random() * 256)
            elif kind < 0.6:
                del payload[start:end]
            elif kind < 0.8:
                payload[start:start] = self._random.choice(
                    (b'"', b"\\", b"{", b"}", b",", b":", b"\x00", b"\xc3", b"\\ud800")
                )
            elif kind < 0.9:
                payload[start:start] = payload[start:end]
            else:
                del payload[start:]
        return bytes(payload)

    def _any_json(self, depth: int = 4) -> bytes:
        draw = self._random.random()
        if depth == 0 or draw < 0.4:
            return self._random.choice(TOKENS)
        parts = [self._any_json(depth - 1) for _ in range(int(self._random.random() * 4))]
        if draw < 0.7:
            return b"[" + b",".join(parts) + b"]"
        return _object({self._random.choice(NAMES): part for part in parts})

    def _any_bytes(self) -> bytes:
        return self._random.randbytes(int(self._random.random() ** 3 * 300))


def _object(fields: dict[bytes, bytes]) -> bytes:
    return b"{" + b",".join([b'"%s":%s' % field for field in fields.items()]) + b"}"
