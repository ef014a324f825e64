from __future__ import annotations

from kafka.consumer.fetcher import ConsumerRecord

from anabranch.messages import Event, encode
from consumers.received import decode

EVENT = Event(event_id="e", user_id="u", type="view", ts=5, item_id="i")


def record(value: bytes | None, key: bytes | None = b"u", offset: int = 7) -> ConsumerRecord:
    return ConsumerRecord("events", 2, 0, offset, 1234, 1, key, value, [("trace", b"1")], None, 0, 0, 0)


def test_an_event_keeps_its_place_in_the_log() -> None:
    received, dead = decode([record(encode(EVENT))])
    assert dead == []
    assert received[0] == (EVENT, 2, 7, 1234)


def test_a_message_that_is_none_becomes_a_dead_letter_as_it_came() -> None:
    received, (letter,) = decode([record(b"junk")])
    outgoing = letter.outgoing("dead")
    assert received == []
    assert (outgoing.key, outgoing.value) == (b"u", b"junk")
    assert dict(outgoing.headers or []) == {
        "trace": b"1",
        "topic": b"events",
        "partition": b"2",
        "offset": b"7",
        "category": b"invalid",
        "reason": letter.reason.encode(),
    }


def test_a_tombstone_is_a_dead_letter() -> None:
    assert decode([record(None)])[1][0].category == "empty"


def test_an_event_under_another_users_key_is_a_dead_letter() -> None:
    assert decode([record(encode(EVENT), key=b"v")])[1][0].category == "wrong_key"
    assert decode([record(encode(EVENT), key=None)])[1][0].category == "wrong_key"


def test_events_around_a_dead_letter_keep_their_order() -> None:
    received, dead = decode([record(encode(EVENT), offset=1), record(b"x", offset=2), record(encode(EVENT), offset=3)])
    assert [one.offset for one in received] == [1, 3]
    assert [one.record.offset for one in dead] == [2]
