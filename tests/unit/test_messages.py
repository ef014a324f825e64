from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from anabranch import messages
from anabranch.codec import NESTING
from anabranch.messages import (
    EVENT_TYPES,
    REASON_LENGTH,
    Epoch,
    Event,
    Feedback,
    IndexingComplete,
    InvalidMessage,
    ItemVector,
    Ranking,
    Rebase,
    StateMarker,
)

EVENT = {"event_id": "e", "user_id": "u", "type": "purchase", "ts": 1_500_000_000_000, "item_id": "i"}
ITEM = {"item_id": "i", "title": "Soup"}
BARE = b'{"event_id":"e","user_id":"u","type":"view","ts":1,"item_id":"i"'
"""An event without its closing brace: what follows is one field more."""
IDS_OF_EVENT = ["event_id", "user_id", "item_id", "session_id", "domain", "order_id", "ranking_id"]
IDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc",)), min_size=1, max_size=20)
Result = TypeVar("Result")


def reason(payload: bytes, codec: messages.Codec[Any] = messages.events) -> str:
    """Why a payload is no message; it must be one that a header can carry, and the bytes must be kept."""
    with pytest.raises(InvalidMessage) as raised:
        codec.decode(payload)
    assert raised.value.payload == payload
    assert 0 < len(raised.value.reason) <= REASON_LENGTH
    raised.value.reason.encode()
    return raised.value.reason


OLD_BYTES: dict[str, tuple[messages.Codec[Any], bytes]] = {
    "event 1": (
        messages.events,
        b'{"event_id":"e1","user_id":"u1","type":"purchase","ts":1500000000000,"item_id":"i1","session_id":"s1"}',
    ),
    "event 2": (
        messages.events,
        b'{"event_id":"e1","user_id":"u1","type":"purchase","ts":1,"item_id":"i1","quantity":2.0,"price":1.5,'
        b'"order_id":"o1","ranking_id":"r1"}',
    ),
    "search 1": (messages.events, b'{"event_id":"e2","user_id":"u1","type":"search","ts":1,"query":"soup"}'),
    "identity 1": (messages.identities, b'{"user_id":"u1","ts":1}'),
    "item 1": (messages.items, b'{"item_id":"i1","title":"Soup","category":["GROCERY","SOUP"],"price":1.5}'),
    "vector 1": (messages.item_vectors, b'{"type":"vector","item_id":"i1","release":"r1","vector":"AACAPw=="}'),
    "coverage 1": (messages.item_vectors, b'{"type":"coverage","release":"r1","items":7,"ts":1}'),
    "ranking 1": (
        messages.rankings,
        b'{"user_id":"u1","release":"r1","cause":{"event_id":"e1","partition":0,"offset":7,"ts":1},'
        b'"slate":[["i1",0.5]],"ts":2}',
    ),
    "ranking 2": (
        messages.rankings,
        b'{"user_id":"u1","release":"r1","cause":{"event_id":"e1","partition":0,"offset":7,"ts":1},'
        b'"slate":[["i1",0.5]],"ts":2,"purchase":[0.25]}',
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


def test_a_notice_of_before_windows_were_told_names_none() -> None:
    codec, payload = OLD_BYTES["release 1"]
    notice = codec.decode(payload)
    assert (notice.gate_from, notice.gate_to) == (None, None)
    assert b"gate_to" not in messages.encode(notice)


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


IMPRESSION = {"event_id": "e", "user_id": "u", "type": "impression", "ts": 1, "shown": ["a", "b"]}


def test_an_impression_has_the_items_that_were_shown() -> None:
    impression = messages.events.decode(msgspec.json.encode(IMPRESSION))
    assert impression.shown == ("a", "b")
    assert impression.item_of_interest is None
    assert not impression.is_action
    assert messages.encode(impression) == msgspec.json.encode(IMPRESSION)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"shown": []}, "has its items in `shown`"),
        ({"item_id": "a"}, "and no `item_id`"),
        ({"shown": ["a\n"]}, "`shown` contains a control character"),
        ({"shown": [""]}, r"\$\.shown"),
        ({"shown": ["a"] * 201}, r"\$\.shown"),
    ],
)
def test_an_impression_without_items_or_with_an_item_of_interest_is_refused(
    fields: dict[str, object], problem: str
) -> None:
    assert re.search(problem, reason(msgspec.json.encode(IMPRESSION | fields)))


@pytest.mark.parametrize("type", sorted(set(EVENT_TYPES) - {"search", "impression", "rating"}))
def test_a_type_of_event_shows_interest_in_its_item_or_dislike_or_neither(type: str) -> None:
    event = messages.events.decode(msgspec.json.encode(EVENT | {"type": type}))
    assert event.item_of_interest == (None if type in ("refund", "dislike", "remove_from_cart") else "i")
    assert event.disliked_item == ("i" if type == "dislike" else None)


@pytest.mark.parametrize(("rating", "liked", "disliked"), [(0.5, "i", None), (0, None, None), (-0.1, None, "i")])
def test_a_rating_above_0_shows_interest_and_one_below_0_dislike(
    rating: float, liked: str | None, disliked: str | None
) -> None:
    event = messages.events.decode(msgspec.json.encode(EVENT | {"type": "rating", "rating": rating}))
    assert (event.item_of_interest, event.disliked_item) == (liked, disliked)


@pytest.mark.parametrize(("fields", "problem"), [({}, "needs `rating`, from -1 to 1"), ({"rating": 5}, r"\$\.rating")])
def test_a_rating_without_a_value_from_minus_1_to_1_is_refused(fields: dict[str, object], problem: str) -> None:
    assert re.search(problem, reason(msgspec.json.encode(EVENT | {"type": "rating"} | fields)))


@pytest.mark.parametrize("field", ["quantity", "price", "order_id", "ranking_id"])
def test_an_event_of_before_orders_has_none_of_their_fields_and_none_travel(field: str) -> None:
    event = messages.events.decode(OLD_BYTES["event 1"][1])
    assert getattr(event, field) is None
    assert field.encode() not in messages.encode(event)


def test_an_event_of_an_order_has_its_fields() -> None:
    event = messages.events.decode(OLD_BYTES["event 2"][1])
    assert (event.quantity, event.price, event.order_id, event.ranking_id) == (2, 1.5, "o1", "r1")
    assert messages.encode(event) == OLD_BYTES["event 2"][1]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("quantity", b"-0.5"),
        ("quantity", b"1e10"),
        ("quantity", b'"2"'),
        ("price", b"1e999"),
        ("price", b"-1e13"),
        ("price", b'"1.50"'),
        ("order_id", b'""'),
        ("ranking_id", b'"' + b"r" * 513 + b'"'),
    ],
)
def test_a_negative_quantity_an_infinite_price_and_an_id_without_a_length_are_named(field: str, value: bytes) -> None:
    assert f"$.{field}" in reason(BARE + b',"' + field.encode() + b'":' + value + b"}")


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
        event_id=IDS,
        user_id=IDS,
        type=st.sampled_from(EVENT_TYPES[:3]),
        ts=st.integers(0, 253_402_300_799_999),
        item_id=IDS,
        session_id=st.none() | IDS,
        context=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    )
)
def test_an_event_survives_the_wire(event: Event) -> None:
    assert messages.events.decode(messages.encode(event)) == event


@pytest.mark.parametrize(
    "payload", [b"[1]", b"3", b'"text"', b"null", b"true", b"[" + BARE + b"}]", BARE + b"}" + BARE + b"}"]
)
def test_what_is_no_object_is_invalid(payload: bytes) -> None:
    reason(payload)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
@pytest.mark.parametrize("field", [b'"x":', b'"context":{"a":', b'"item_id":'])
def test_deep_nesting_is_invalid_and_no_recursion_error(opening: bytes, field: bytes) -> None:
    assert "deep" in reason(BARE + b"," + field + opening * 100_000)


def test_nesting_is_judged_alike_however_deep_the_reader_itself_stands() -> None:
    allowed = BARE + b',"x":' + b"[" * (NESTING - 1) + b"]" * (NESTING - 1) + b"}"
    too_deep = BARE + b',"x":' + b"[" * NESTING + b"]" * NESTING + b"}"
    for depth in (1, sys.getrecursionlimit() // 2):
        at_depth(depth, lambda: messages.events.decode(allowed))
        at_depth(depth, lambda: reason(too_deep))


def at_depth(depth: int, call: Callable[[], Result]) -> Result:
    return call() if depth == 0 else at_depth(depth - 1, call)


def test_brackets_in_a_text_are_no_nesting() -> None:
    query = '[{"\\' * 200
    search = Event(event_id="e", user_id="u", type="search", ts=1, query=query)
    assert messages.events.decode(messages.encode(search)).query == query


@pytest.mark.parametrize(
    "payload",
    [
        BARE.replace(b'"u"', b'"\xff"') + b"}",
        BARE.replace(b'"u"', b'"\xed\xa0\x80"') + b"}",
        BARE + b',"passed over":"\xff"}',
        BARE + b',"\xff":1}',
        (BARE + b"}").decode().encode("utf-16"),
    ],
)
def test_invalid_utf_8_is_invalid_wherever_it_stands(payload: bytes) -> None:
    assert "utf-8" in reason(payload)


@pytest.mark.parametrize("field", ["event_id", "user_id", "item_id", "session_id", "domain", "context", "anything"])
@pytest.mark.parametrize("half", [r"\ud800", r"\udfff", r"\ud800x", r"\udc00\ud800"])
def test_half_a_surrogate_pair_is_invalid_for_it_is_no_text(field: str, half: str) -> None:
    value = f'{{"a":"{half}"}}' if field == "context" else f'"{half}"'
    others = {name: content for name, content in EVENT.items() if name != field}
    reason(msgspec.json.encode(others)[:-1] + f',"{field}":{value}}}'.encode())


def test_a_whole_surrogate_pair_is_the_character_it_means() -> None:
    assert messages.events.decode(BARE.replace(b'"u"', rb'"\ud83d\ude00"') + b"}").user_id == "\U0001f600"


@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, "-1", "1.5", "true", '"1"', "1e400"]
)
def test_a_time_that_is_no_whole_number_of_milliseconds_is_invalid(number: str) -> None:
    reason(BARE.replace(b'"ts":1', f'"ts":{number}'.encode()) + b"}")


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity"])
def test_numbers_that_json_has_not_are_invalid_even_where_they_are_passed_over(number: bytes) -> None:
    reason(BARE + b',"x":' + number + b"}")


@pytest.mark.parametrize("number", [b"9" * 5000, b"1e999", b"-1e-999"])
def test_a_huge_number_in_an_unknown_field_is_passed_over(number: bytes) -> None:
    messages.events.decode(BARE + b',"x":' + number + b"}")


@pytest.mark.parametrize(
    ("field", "more"),
    [
        ("user_id", b',"user_id":"v"}'),
        ("user_id", b',"user_id":"u"}'),
        ("user_id", rb',"\u0075ser_id":"v"}'),
        ("type", b' , "type" : "cart" }'),
        ("a", b',"context":{"a":"1","b":"2","a":"3"}}'),
        ("a", rb',"context":{"a":"1","\u0061":"3"}}'),
        ("query", b',"query":null,"query":"x"}'),
        ("context", b',"context":{"a":"1"},"context":{}}'),
    ],
)
def test_a_field_that_stands_there_twice_is_named(field: str, more: bytes) -> None:
    assert f"`{field}`" in reason(BARE + more)


@pytest.mark.parametrize("more", [b',"x":1,"x":2}', b',"x":{"a":1,"a":2}}', b',"context":{"user_id":"a:b"}}'])
def test_what_is_passed_over_may_stand_there_twice(more: bytes) -> None:
    messages.events.decode(BARE + more)


@pytest.mark.parametrize("name", IDS_OF_EVENT)
@pytest.mark.parametrize("value", ["", "x" * 513, "x" * 10_000])
def test_an_id_that_is_empty_or_too_long_is_named(name: str, value: str) -> None:
    assert f"$.{name}" in reason(msgspec.json.encode(EVENT | {name: value}))


@pytest.mark.parametrize("name", IDS_OF_EVENT)
@pytest.mark.parametrize("character", ["\x00", "\n", "\t", "\x1f", "\x7f", "\x85"])
def test_an_id_with_a_control_character_is_named(name: str, character: str) -> None:
    assert f"`{name}`" in reason(msgspec.json.encode(EVENT | {name: f"a{character}"}))


@pytest.mark.parametrize("text", [" ", "\u00a0", "\u200d", "\u202e", "\U0001f600", "e\u0301", "a/b:c", "\ufffe"])
def test_any_other_character_may_stand_in_an_id(text: str) -> None:
    assert messages.events.decode(msgspec.json.encode(EVENT | {"user_id": text})).user_id == text


def test_a_search_may_hold_any_text() -> None:
    query = "a\nb\x1f"
    event = {**EVENT, "type": "search", "query": query}
    assert messages.events.decode(msgspec.json.encode(event)).query == query


@pytest.mark.parametrize("separator", ["\x1f", "\n"])
def test_no_id_of_items_vectors_neighbours_and_releases_holds_what_separates_the_parts_of_a_key(separator: str) -> None:
    bad = f"a{separator}"
    payloads: list[tuple[messages.Codec[Any], dict[str, object]]] = [
        (messages.items, ITEM | {"item_id": bad}),
        (messages.item_vectors, {"type": "vector", "item_id": bad, "release": "r", "vector": ""}),
        (messages.item_vectors, {"type": "vector", "item_id": "i", "release": bad, "vector": ""}),
        (messages.item_vectors, {"type": "coverage", "release": bad, "items": 1, "ts": 1}),
        (messages.neighbours, {"item_id": bad, "neighbours": [], "popularity": 0, "first_seen": 0, "ts": 0}),
        (
            messages.releases,
            {"release": bad, "status": "live", "ts": 1, "location": "r", "manifest_sha256": "0"},
        ),
    ]
    for codec, payload in payloads:
        assert "regex" in reason(msgspec.json.encode(payload), codec)


@pytest.mark.parametrize(
    "context",
    [{str(n): "" for n in range(65)}, {"k" * 129: ""}, {"k": "v" * 4097}],
    ids=["65 entries", "a key of 129", "a value of 4097"],
)
def test_an_events_context_has_a_bound(context: dict[str, str]) -> None:
    assert "$.context" in reason(msgspec.json.encode(EVENT | {"context": context}))


def test_an_events_context_up_to_its_bound_is_read() -> None:
    context = {f"{n:0128}": "v" * 4096 for n in range(64)}
    assert messages.events.decode(msgspec.json.encode(EVENT | {"context": context})).context == context


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("title", "t" * 4097),
        ("description", "d" * 65_537),
        ("brand", "b" * 513),
        ("category", ["c"] * 33),
        ("category", ["c" * 513]),
        ("vectors", {str(n): [] for n in range(17)}),
        ("vectors", {"image": [0.0] * 16_385}),
        ("vectors", {"image": [1e39]}),
        ("vectors", {"n" * 129: []}),
    ],
)
def test_every_field_of_an_item_has_a_bound(field: str, value: object) -> None:
    assert f"$.{field}" in reason(msgspec.json.encode(ITEM | {field: value}), messages.items)


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"1e999", b"9" * 400])
def test_a_price_that_is_no_finite_number_is_invalid(number: bytes) -> None:
    reason(b'{"item_id":"i","title":"t","price":' + number + b"}", messages.items)


def test_an_items_field_that_stands_there_twice_is_named() -> None:
    assert "`title`" in reason(b'{"item_id":"i","title":"t","title":"u"}', messages.items)
    assert "`image`" in reason(b'{"item_id":"i","title":"t","vectors":{"image":[1],"image":[2]}}', messages.items)


def test_a_reason_that_quotes_what_came_is_cut_to_what_a_header_carries() -> None:
    text = "\u00e9" * 100_000
    assert reason(msgspec.json.encode(EVENT | {"type": text})).endswith("\u2026")


def test_vectors_and_coverage_share_a_topic_and_are_told_apart() -> None:
    vector = ItemVector(item_id="i", release="r", vector=b"\x00\x00\x80?")
    coverage = IndexingComplete(release="r", items=1, ts=1)
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


class EarlierMarker(Struct, frozen=True, array_like=True, tag=1):
    """`StateMarker` as versions before topic ids wrote and read it."""

    offset: int
    rankings_offset: int
    epochs: list[Epoch]


def test_a_marker_of_before_topic_ids_is_read_and_names_none() -> None:
    marker = messages.state_markers.decode(messages.encode_binary(EarlierMarker(7, 3, [Epoch(5, "r1")])))
    assert marker == StateMarker(offset=7, rankings_offset=3, epochs=[Epoch(5, "r1")])
    assert marker.events_topic_id == "" and marker.rebases == []


def test_an_earlier_version_reads_a_marker_with_a_topic_id_and_rebases() -> None:
    marker = StateMarker(
        offset=7, rankings_offset=3, epochs=[Epoch(5, "r1")], events_topic_id="id", rebases=[Rebase(9, 2, 5)]
    )
    assert messages.state_markers.decode(messages.encode_binary(marker)) == marker
    earlier = messages.BinaryCodec(EarlierMarker).decode(messages.encode_binary(marker))
    assert earlier == EarlierMarker(7, 3, [Epoch(5, "r1")])
