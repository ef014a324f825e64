from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch import messages
from anabranch.messages import EVENT_TYPES, Coverage, Event, Feedback, InvalidMessage, ItemVector, Ranking

EVENT = {"event_id": "e", "user_id": "u", "type": "purchase", "ts": 1_500_000_000_000, "item_id": "i"}

OLD_BYTES: dict[str, tuple[messages.Codec[Any], bytes]] = {
    "event 1": (
        messages.events,
        b'{"event_id":"e1","user_id":"u1","type":"purchase","ts":1500000000000,"item_id":"i1","session_id":"s1"}',
    ),
    "search 1": (messages.events, b'{"event_id":"e2","user_id":"u1","type":"search","ts":1,"query":"soup"}'),
    "item 1": (messages.items, b'{"item_id":"i1","title":"Soup","category":["GROCERY","SOUP"],"price":1.5}'),
    "vector 1": (messages.item_vectors, b'{"type":"vector","item_id":"i1","release":"r1","vector":"AACAPw=="}'),
    "coverage 1": (messages.item_vectors, b'{"type":"coverage","release":"r1","items":7,"ts":1}'),
    "ranking 1": (
        messages.rankings,
        b'{"user_id":"u1","release":"r1","cause":{"event_id":"e1","partition":0,"offset":7,"ts":1},'
        b'"slate":[["i1",0.5]],"ts":2}',
    ),
    "feedback 1": (
        messages.feedback,
        b'{"event":{"event_id":"e1","user_id":"u1","type":"purchase","ts":1,"item_id":"i1"},"partition":0,"offset":7,'
        b'"release":"r1","slate_size":20,"rank":3}',
    ),
    "neighbours 1": (
        messages.neighbours,
        b'{"item_id":"i1","neighbours":[["i2",0.5]],"popularity":0.1,"first_seen":1,"ts":2}',
    ),
    "release 1": (
        messages.releases,
        b'{"release":"r1","status":"live","ts":1,"location":"r1","manifest_sha256":"00","gate":{"ndcg_at_20":0.1}}',
    ),
}


@pytest.mark.parametrize("name", OLD_BYTES)
def test_bytes_written_by_the_first_version_are_still_read(name: str) -> None:
    codec, payload = OLD_BYTES[name]
    codec.decode(payload)


@pytest.mark.parametrize("missing", ["event_id", "user_id", "type", "ts"])
def test_a_missing_required_field_is_named(missing: str) -> None:
    payload = msgspec.json.encode({name: value for name, value in EVENT.items() if name != missing})
    with pytest.raises(InvalidMessage, match=missing) as raised:
        messages.events.decode(payload)
    assert raised.value.payload == payload


@pytest.mark.parametrize(
    ("field", "value"), [("user_id", 3), ("ts", "now"), ("type", "bought"), ("event_id", ""), ("context", {"a": 1})]
)
def test_a_field_of_the_wrong_type_is_named(field: str, value: object) -> None:
    with pytest.raises(InvalidMessage, match=rf"\$\.{field}"):
        messages.events.decode(msgspec.json.encode(EVENT | {field: value}))


def test_unknown_fields_are_ignored() -> None:
    assert messages.events.decode(msgspec.json.encode(EVENT | {"colour": "red"})).item_id == "i"


def test_a_time_in_microseconds_is_rejected() -> None:
    with pytest.raises(InvalidMessage, match=r"\$\.ts"):
        messages.events.decode(msgspec.json.encode(EVENT | {"ts": 1_500_000_000_000_000}))


def test_a_search_needs_a_query_and_everything_else_an_item() -> None:
    with pytest.raises(InvalidMessage, match="needs `query`"):
        messages.events.decode(msgspec.json.encode(EVENT | {"type": "search"}))
    with pytest.raises(InvalidMessage, match="needs `item_id`"):
        messages.events.decode(msgspec.json.encode({**EVENT, "item_id": None}))


@pytest.mark.parametrize("payload", [b"", b"{", b"null", b"[]", b"\xff\xfe", b'"text"', b'{"event_id":'])
def test_bytes_that_are_no_message_are_invalid_and_kept(payload: bytes) -> None:
    with pytest.raises(InvalidMessage) as raised:
        messages.events.decode(payload)
    assert raised.value.payload == payload


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_invalid_message(payload: bytes) -> None:
    try:
        messages.events.decode(payload)
    except InvalidMessage:
        return


@given(
    st.builds(
        Event,
        event_id=st.text(min_size=1, max_size=20),
        user_id=st.text(min_size=1, max_size=20),
        type=st.sampled_from(EVENT_TYPES[:3]),
        ts=st.integers(0, 253_402_300_799_999),
        item_id=st.text(min_size=1, max_size=20),
        session_id=st.none() | st.text(min_size=1, max_size=20),
        context=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    )
)
def test_an_event_survives_the_wire(event: Event) -> None:
    assert messages.events.decode(messages.encode(event)) == event


def test_vectors_and_coverage_share_a_topic_and_are_told_apart() -> None:
    vector = ItemVector(item_id="i", release="r", vector=b"\x00\x00\x80?")
    coverage = Coverage(release="r", items=1, ts=1)
    assert messages.item_vectors.decode(messages.encode(vector)) == vector
    assert messages.item_vectors.decode(messages.encode(coverage)) == coverage


def test_defaults_do_not_travel() -> None:
    event = Event(event_id="e", user_id="u", type="view", ts=1, item_id="i")
    assert messages.encode(event) == b'{"event_id":"e","user_id":"u","type":"view","ts":1,"item_id":"i"}'
    assert messages.encode(Feedback(event=event, partition=0, offset=1)).endswith(b'"partition":0,"offset":1}')


def test_a_place_of_a_slate_travels_as_a_pair() -> None:
    payload = OLD_BYTES["ranking 1"][1]
    ranking = messages.rankings.decode(payload)
    assert isinstance(ranking, Ranking)
    assert messages.encode(ranking) == payload
