"""The checks that a schema cannot express: repeated names and nesting, at a cost that is proportional to the length."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch import messages
from anabranch.codec import EXACT_BYTES, NESTING, InvalidMessage, _refuse_nesting, _refuse_repeated_name

BARE = b'{"event_id":"e","user_id":"u","type":"view","ts":1,"item_id":"i"'
"""An event without its closing brace: what follows is one field more."""
FILLER = b',"y":"' + b"x" * EXACT_BYTES + b'"'


@dataclass
class Pairs:
    """An object with its repeated names."""

    pairs: list[tuple[str, object]]


def reason(payload: bytes) -> str:
    with pytest.raises(InvalidMessage) as raised:
        messages.events.decode(payload)
    return raised.value.reason


def test_a_long_object_must_repeat_no_name_at_all() -> None:
    """To find out which name it is would cost a hundred times what it costs to decode the message."""
    messages.events.decode(BARE + FILLER + b',"x":{"a":1,"a":2}}')
    assert "repeats a name" in reason(BARE + FILLER + b',"x":1,"x":2}')
    assert "repeats a name" in reason(BARE + FILLER + b',"type":"cart"}')


def test_a_colon_written_as_an_escape_hides_no_repeated_name() -> None:
    assert "`user_id`" in reason(BARE + rb',"a\u003ab":1,"user_id":"v"}')
    assert "`user_id`" in reason(BARE + FILLER + rb',"a\u003ab":1,"user_id":"v"}')


@st.composite
def objects(draw: st.DrawFn) -> bytes:
    """An object with names that may repeat, and values with quotes, escapes, colons and brackets in them."""
    names = st.sampled_from([b'"x"', b'"y"', rb'"\u0078"', b'":"', rb'"\u003a"', rb'"\""', b'"user_id"'])
    values = st.sampled_from([b"1", b'"a"', rb'"\"]:["', rb'"\\"', b'"{"', b"[[]]", b'{"x":1,"x":[{"a":":"}]}', b'""'])
    pairs = draw(st.lists(st.tuples(names, values), max_size=6))
    return b"{" + b",".join([b" : ".join(pair) for pair in pairs]) + b"}"


@given(objects())
def test_a_repeated_name_is_found_by_its_colons_exactly_if_reading_all_names_finds_it(payload: bytes) -> None:
    pairs = json.loads(payload, object_pairs_hook=tuple)
    names = [name for name, _ in pairs]
    fields = msgspec.json.decode(payload, type=dict[str, msgspec.Raw])
    with pytest.raises(ValueError, match="twice") if len(set(names)) < len(names) else nullcontext():
        _refuse_repeated_name(payload, fields, set(names))


@given(objects(), st.integers(0, 2 * NESTING))
def test_nesting_is_counted_outside_of_texts_only(inner: bytes, depth: int) -> None:
    payload = b'{"a":' * depth + inner + b"}" * depth
    with pytest.raises(ValueError, match="nested") if depth + depth_of(inner) > NESTING else nullcontext():
        _refuse_nesting(payload)


def depth_of(payload: bytes) -> int:
    """How deep arrays and objects are nested, by the parsed value."""

    def depth(value: object) -> int:
        match value:
            case list():
                return 1 + max(map(depth, value), default=0)
            case Pairs(pairs):
                return 1 + max((depth(child) for _, child in pairs), default=0)
            case _:
                return 0

    return depth(json.loads(payload, object_pairs_hook=Pairs))
