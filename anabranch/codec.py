"""Decoding of messages with a compiled schema, and checks that the schema cannot express."""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Raw, Struct

REASON_LENGTH = 400
"""Longest reason of an error, in characters: it is sent as a header, and may quote the message."""
NESTING = 100
"""Deepest nesting of arrays and objects. Far below Python's recursion limit, of which more or less is left at different
places, so that a message is accepted everywhere or nowhere."""

Message = TypeVar("Message")

_encoder = msgspec.json.Encoder()
_binary_encoder = msgspec.msgpack.Encoder()
_QUOTE = ord('"')
_STEP = bytes(1 if byte in b"[{" else 255 if byte in b"]}" else 0 for byte in range(256))
"""By byte: how much deeper the nesting is behind it, as int8."""
EXACT_BYTES = 65_536
"""A longer object must repeat no name at all, known or not: to read all of its names takes ten times as long."""
_RAW_FIELDS = msgspec.json.Decoder(dict[str, Raw])
_OBJECTS_AS_PAIRS = json.JSONDecoder(object_pairs_hook=tuple, parse_int=str, parse_float=str)
"""Shows repeated names, which msgspec does not. Numbers stay text, because Python refuses to parse very long ones."""


class InvalidMessage(ValueError):
    """A message that its schema rejects: `reason` names the field or the problem, `payload` is the original bytes.

    The reason is cut to `REASON_LENGTH` characters.
    """

    def __init__(self, reason: str, payload: bytes) -> None:
        self.reason = shortened(reason)
        self.payload = payload
        super().__init__(self.reason)


def shortened(reason: str) -> str:
    """A reason in at most `REASON_LENGTH` characters."""
    return reason if len(reason) <= REASON_LENGTH else f"{reason[: REASON_LENGTH - 1]}…"


def encode(message: Struct) -> bytes:
    """Any message as JSON."""
    return _encoder.encode(message)


def encode_binary(message: Struct) -> bytes:
    """A message of `user-state` as MessagePack."""
    return _binary_encoder.encode(message)


class Codec(Generic[Message]):
    """Decodes the JSON messages of one topic. Build it once: it compiles the schema.

    `foreign` messages come from other programs, which may repeat a field in an object. Parsers differ in which value
    they take, so a repeated field is an error.
    """

    def __init__(self, schema: type[Message], foreign: bool = False) -> None:
        self._decoder = msgspec.json.Decoder(schema)
        self._unique: frozenset[str] = frozenset(getattr(schema, "__struct_encode_fields__", ()) if foreign else ())

    def decode(self, payload: bytes) -> Message:
        """The message. Raises `InvalidMessage`, which names the field or the problem."""
        try:
            payload.decode()  # check all of it: msgspec does not check fields that it skips
            if len(payload) > 2 * NESTING:
                _refuse_nesting(payload)
            message = self._decoder.decode(payload)
            if self._unique and _may_repeat(payload, message):
                _refuse_repetition(payload, self._unique)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise InvalidMessage(str(error), payload) from error
        return message


class BinaryCodec(Generic[Message]):
    """Decodes the MessagePack messages of `user-state`, which only rankers write."""

    def __init__(self, schema: type[Message]) -> None:
        self._decoder = msgspec.msgpack.Decoder(schema)

    def decode(self, payload: bytes) -> Message:
        """The message. Raises `InvalidMessage`."""
        try:
            return self._decoder.decode(payload)
        except msgspec.DecodeError as error:
            raise InvalidMessage(str(error), payload) from error


def _refuse_nesting(payload: bytes) -> None:
    """Some 4 ms a megabyte, whatever is in it."""
    if payload.count(b"[") + payload.count(b"{") <= NESTING:
        return
    import numpy as np  # only here: `anabranch --help` loads this module

    text = np.frombuffer(payload.replace(rb"\\", b"  ").replace(rb"\"", b"  "), np.uint8)
    in_string = np.logical_xor.accumulate(text == _QUOTE)
    step = np.frombuffer(_STEP, np.int8)[text]
    if np.cumsum(np.where(in_string, 0, step), dtype=np.int32).max() > NESTING:
        raise ValueError(f"arrays and objects are nested more than {NESTING} deep")


def _may_repeat(payload: bytes, message: Any) -> bool:
    """False only if no field can occur twice: then the payload has as many colons as the message encoded again."""
    encoded = _encoder.encode(message)
    return payload != encoded and (b"\\" in payload or payload.count(b":") != encoded.count(b":"))


def _refuse_repetition(payload: bytes, names: frozenset[str]) -> None:
    """Look for repeated names among the fields of the schema, and in the objects that are their values.

    What other fields hold is skipped, not read, so that it costs little however deep it is.
    """
    fields = _RAW_FIELDS.decode(payload)
    _refuse_repeated_name(payload, fields, names)
    for name in names & fields.keys():
        value = bytes(fields[name])
        if value.startswith(b"{"):
            inner = _RAW_FIELDS.decode(value)
            _refuse_repeated_name(value, inner, inner.keys())


def _refuse_repeated_name(payload: bytes, fields: Mapping[str, Raw], names: Set[str]) -> None:
    """`fields` has each name of the object `payload` once, so it has fewer colons than `payload` if one is repeated.

    A colon in a name may be written as an escape, and would make up for one of these: then all names are read.
    """
    colons_in_names = sum(name.count(":") for name in fields)
    colons = len(fields) + colons_in_names + sum(bytes(value).count(b":") for value in fields.values())
    may_escape_colons = colons_in_names > 0 and b"\\" in payload
    if payload.count(b":") == colons and not may_escape_colons:
        return
    if len(payload) > EXACT_BYTES and not may_escape_colons:
        raise ValueError(f"an object of more than {EXACT_BYTES} bytes repeats a name")
    read: set[str] = set()
    for name, _ in _OBJECTS_AS_PAIRS.decode(payload.decode()):
        if name in names and name in read:
            raise ValueError(f"`{name}` occurs twice")
        read.add(name)
