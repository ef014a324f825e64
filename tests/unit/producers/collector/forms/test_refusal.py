from __future__ import annotations

import json
from typing import Any

import pytest

from anabranch import messages
from anabranch.messages import Event, InvalidMessage
from producers.collector.forms.refusal import EVENT_REMEDY, REMEDIES, refused

VALID = {"event_id": "e", "user_id": "u", "type": "view", "ts": 1, "item_id": "i"}


def test_every_field_of_an_event_has_a_remedy() -> None:
    assert REMEDIES.keys() == set(Event.__struct_fields__)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"event_id": None}, "event_id"),
        ({"event_id": ""}, "event_id"),
        ({"user_id": "u" * 513}, "user_id"),
        ({"user_id": "a\nb"}, "user_id"),
        ({"type": "buy"}, "type"),
        ({"type": "`ts`"}, "type"),
        ({"ts": -1}, "ts"),
        ({"ts": 1.5}, "ts"),
        ({"item_id": None}, "item_id"),
        ({"type": "search", "item_id": None}, "query"),
        ({"query": 3}, "query"),
        ({"session_id": 3}, "session_id"),
        ({"domain": []}, "domain"),
        ({"context": {"a": 3}}, "context"),
        ({"context": []}, "context"),
        ({"type": "rating"}, "rating"),
        ({"type": "rating", "rating": 5}, "rating"),
        ({"quantity": -1}, "quantity"),
        ({"price": "free"}, "price"),
        ({"order_id": ""}, "order_id"),
        ({"ranking_id": "a\x00"}, "ranking_id"),
        ({"shown": "i"}, "shown"),
        ({"type": "impression", "item_id": None, "shown": ["i", "a\x00"]}, "shown"),
        ({"type": "impression", "item_id": None, "shown": [3]}, "shown"),
    ],
)
def test_a_refusal_names_the_field_that_the_decoder_rejects(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidMessage) as raised:
        messages.events.decode(json.dumps(VALID | changes).encode())
    refusal = refused(7, raised.value.reason)
    assert (refusal.index, refusal.field, refusal.remedy) == (7, field, REMEDIES[field])


@pytest.mark.parametrize("missing", ["event_id", "user_id", "type", "ts"])
def test_a_refusal_names_the_field_that_is_missing(missing: str) -> None:
    payload = json.dumps({name: value for name, value in VALID.items() if name != missing}).encode()
    with pytest.raises(InvalidMessage) as raised:
        messages.events.decode(payload)
    assert refused(0, raised.value.reason).field == missing


def test_a_refusal_names_the_field_that_is_repeated_and_none_for_what_is_no_event() -> None:
    with pytest.raises(InvalidMessage) as raised:
        messages.events.decode(json.dumps(VALID).replace('"ts": 1', '"ts": 1, "ts": 2').encode())
    assert refused(0, raised.value.reason).field == "ts"
    with pytest.raises(InvalidMessage) as raised:
        messages.events.decode(b"{nope}")
    assert (refused(0, raised.value.reason).field, refused(0, raised.value.reason).remedy) == (None, EVENT_REMEDY)
