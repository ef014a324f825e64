from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.http.problems import HttpProblem
from anabranch.messages import Event
from anabranch.own_event_types import OwnEventTypes
from producers.collector.forms.event_decoder import EventDecoder
from producers.collector.forms.events_form import EventsForm
from producers.collector.forms.limits import CollectorLimits
from producers.collector.forms.media_types import JSON, NDJSON, require_media_type
from producers.collector.forms.request_events import parse

DECODER = EventDecoder(OwnEventTypes({"wishlist": "like", "Find": "search", "Shop:Stars": "dislike"}))
LIMITS = CollectorLimits(body_bytes=10_000, event_bytes=300, events=5)


def event(number: int, **changes: Any) -> dict[str, Any]:
    return {"event_id": f"e{number}", "user_id": "u", "type": "view", "ts": 1, "item_id": "i"} | changes


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


def problem(body: bytes, media_type: str = JSON) -> HttpProblem:
    with pytest.raises(HttpProblem) as raised:
        parse(body, media_type, LIMITS, DECODER)
    return raised.value


EVENTS = [event(number) for number in range(3)]


@pytest.mark.parametrize(
    ("body", "media_type", "ids"),
    [
        (encoded(EVENTS[0]), JSON, ["e0"]),
        (b" \n" + encoded(EVENTS) + b"\n", JSON, ["e0", "e1", "e2"]),
        (b"\n".join(map(encoded, EVENTS)), NDJSON[0], ["e0", "e1", "e2"]),
        (b"\r\n".join(map(encoded, EVENTS)) + b"\r\n\r\n", NDJSON[1], ["e0", "e1", "e2"]),
        (encoded(EVENTS[0]), NDJSON[0], ["e0"]),
    ],
)
def test_an_event_a_list_and_lines_are_read_in_order(body: bytes, media_type: str, ids: list[str]) -> None:
    batch = parse(body, media_type, LIMITS, DECODER)
    assert [read.event_id for read in batch.events] == ids
    assert batch.events[0] == Event(event_id="e0", user_id="u", type="view", ts=1, item_id="i")
    assert not batch.refused


def test_a_type_of_the_shops_own_becomes_the_type_that_the_setting_says_whatever_its_case() -> None:
    names = ["wishlist", " WishList", "find", "shop:stars"]
    events = [event(number, type=name, query="soup") for number, name in enumerate(names)]
    batch = parse(encoded(events), JSON, LIMITS, DECODER)
    assert not batch.refused
    assert batch.events == [
        Event(**event(number, type=kind, query="soup"))
        for number, kind in enumerate(["like", "like", "search", "dislike"])
    ]


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('"type": "buy", "item_id": "i"', "type"),
        ('"type": "wishlist"', "item_id"),
        ('"type": "find"', "query"),
        ('"type": "wishlist", "item_id": "i", "item_id": "j"', "item_id"),
        ('"type": "wishlist", "type": "wishlist", "item_id": "i"', "type"),
        ('"type": "wishlist", "item_id": "i\\u0000"', "item_id"),
        ('"type": "wishlist", "item_id": "i", "price": "x"', "price"),
        ('"type": "wishlist", "item_id": 7', "item_id"),
        ('"type": 7, "item_id": "i"', "type"),
    ],
)
def test_an_event_of_the_shops_own_type_is_checked_as_one_of_ours(text: str, field: str) -> None:
    body = f'{{"event_id": "e", "user_id": "u", "ts": 1, {text}}}'.encode()
    [refusal] = parse(body, JSON, LIMITS, DECODER).refused
    assert refusal.field == field


def test_what_is_invalid_is_refused_by_index_field_and_remedy_and_the_rest_is_taken() -> None:
    batch = parse(encoded([event(0), event(1, ts="now"), event(2), event(3, type="buy")]), JSON, LIMITS, DECODER)
    assert [read.event_id for read in batch.events] == ["e0", "e2"]
    assert [(refusal.index, refusal.field) for refusal in batch.refused] == [(1, "ts"), (3, "type")]
    assert batch.refused[0].reason == "Expected `int`, got `str` - at `$.ts`"
    assert "milliseconds since 1970" in batch.refused[0].remedy
    assert "view, cart, purchase" in batch.refused[1].remedy


def test_a_line_that_is_no_json_is_refused_alone() -> None:
    batch = parse(b"\n".join([encoded(event(0)), b"", b"{nope}", encoded(event(1))]), NDJSON[0], LIMITS, DECODER)
    assert [read.event_id for read in batch.events] == ["e0", "e1"]
    [refusal] = batch.refused
    assert refusal.index == 1, "blank lines do not count"
    assert "byte" in refusal.reason


def test_an_event_over_its_limit_is_refused_and_one_of_exactly_the_limit_is_not() -> None:
    frame = len(encoded(event(0, query="")))
    fits, too_long = (event(0, query="q" * (LIMITS.event_bytes - frame + more)) for more in (0, 1))
    batch = parse(encoded([fits, too_long]), JSON, LIMITS, DECODER)
    assert len(batch.events) == 1
    [refusal] = batch.refused
    assert (refusal.index, refusal.reason) == (1, "the event has more than 300 bytes")


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"", "ends at byte 0, too early"),
        (b'{"event_id": "e1"', "ends at byte 17, too early"),
        (b"[{}, {]", "(byte 6)"),
        (b"[1, 2,]", "trailing comma in array (byte 6)"),
        (encoded(EVENTS[0]) + b"}", "trailing characters"),
        (b"\xff", "(byte 0)"),
        (b"event_id=e1&user_id=u1", "(byte 0)"),
        (b"[" * 50_000, "nested too deep"),
        (b'{"a":' * 50_000, "nested too deep"),
    ],
)
def test_a_body_that_is_no_json_is_answered_with_where_it_fails(body: bytes, where: str) -> None:
    answer = problem(body)
    assert answer.status == 400
    assert where in answer.detail


@pytest.mark.parametrize(("body", "media_type"), [(b"[]", JSON), (b"", NDJSON[0]), (b"\n \n", NDJSON[0])])
def test_a_body_without_an_event_is_refused(body: bytes, media_type: str) -> None:
    assert (problem(body, media_type).status, "no event" in problem(body, media_type).detail) == (400, True)


@pytest.mark.parametrize("media_type", [JSON, NDJSON[0]])
def test_more_events_than_the_limit_are_refused_together_and_as_many_are_not(media_type: str) -> None:
    def body(count: int) -> bytes:
        events = [event(number) for number in range(count)]
        return encoded(events) if media_type == JSON else b"\n".join(map(encoded, events))

    assert len(parse(body(5), media_type, LIMITS, DECODER).events) == 5
    assert problem(body(6), media_type).status == 413
    assert problem(b"\n" * 100 + body(6), media_type).status == 413


@pytest.mark.parametrize("value", [3, "event", None, True, [], [[]], [None]])
def test_json_that_is_no_event_is_refused_as_one(value: Any) -> None:
    if value == []:
        assert problem(encoded(value)).status == 400
        return
    batch = parse(encoded(value), JSON, LIMITS, DECODER)
    assert not batch.events
    assert [(refusal.index, refusal.field) for refusal in batch.refused] == [(0, None)]
    assert "JSON object" in batch.refused[0].remedy


@given(st.binary(max_size=200), st.sampled_from([JSON, *NDJSON]))
def test_any_bytes_are_events_refusals_or_a_problem_of_the_client(body: bytes, media_type: str) -> None:
    try:
        batch = parse(body, media_type, LIMITS, DECODER)
    except HttpProblem as answer:
        assert answer.status in (400, 413)
    else:
        assert len(batch.events) + len(batch.refused) > 0


@pytest.mark.parametrize(
    ("content_type", "media_type"),
    [
        ("application/json", JSON),
        ("Application/JSON; charset=utf-8", JSON),
        ("application/x-ndjson", NDJSON[0]),
    ],
)
def test_json_and_lines_of_json_are_media_types(content_type: str, media_type: str) -> None:
    assert require_media_type(content_type, EventsForm.media_types) == media_type


@pytest.mark.parametrize("content_type", [None, "", "text/plain", "application/x-www-form-urlencoded", ";", "json"])
def test_other_media_types_and_none_are_refused_with_what_is_taken(content_type: str | None) -> None:
    with pytest.raises(HttpProblem) as raised:
        require_media_type(content_type, EventsForm.media_types)
    assert raised.value.status == 415
    assert raised.value.headers["Accept"] == ", ".join([JSON, *NDJSON])
    assert JSON in raised.value.detail


def test_deep_json_is_a_problem_at_any_recursion_limit() -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        assert problem(b"[" * 100_000).status == 400
    finally:
        sys.setrecursionlimit(limit)
