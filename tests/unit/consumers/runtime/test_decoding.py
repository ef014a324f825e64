from __future__ import annotations

from typing import Any

import pytest
from kafka.consumer.fetcher import ConsumerRecord
from prometheus_client import CollectorRegistry

from anabranch import messages
from anabranch.kafka.headers import HeaderName
from anabranch.kafka.record_batches import UnreadableValue
from anabranch.kafka.records import OutboundRecord, batch_bytes
from anabranch.kafka.topics import ENVELOPE_BYTES
from anabranch.messages import REASON_LENGTH, Event, Item, encode
from anabranch.metrics import ConsumerMetrics
from consumers.runtime.dead_letter import DeadLetter
from consumers.runtime.decoding import DecodedEvent, decode_events, decode_item, decode_own

EVENT = Event(event_id="e", user_id="u", type="view", ts=5, item_id="i")
ITEM = Item(item_id="i", title="Soup")
MAX_BYTES = 1024
TRACE = [("trace", b"1")]


def record(
    value: bytes | None,
    key: bytes | None = b"u",
    offset: int = 7,
    headers: list[tuple[str, bytes | None]] | None = None,
    topic: str = "events",
) -> ConsumerRecord:
    headers = TRACE if headers is None else headers
    return ConsumerRecord(topic, 2, 0, offset, 1234, 1, key, value, headers, None, 0, 0, 0)


def letter(record: ConsumerRecord) -> DeadLetter:
    """The dead letter of a record that is not a valid event."""
    events, (dead,) = decode_events([record], MAX_BYTES)
    assert events == []
    return dead


def item_letter(value: bytes | None, key: bytes | None) -> DeadLetter:
    dead = decode_item(record(value, key, topic="items"), MAX_BYTES)
    assert isinstance(dead, DeadLetter)
    return dead


def test_a_decoded_event_has_its_partition_offset_and_append_time() -> None:
    events, dead = decode_events([record(encode(EVENT))], MAX_BYTES)
    assert dead == []
    assert events[0] == (EVENT, 2, 7, 1234)


def test_an_invalid_event_becomes_a_dead_letter_with_its_bytes_and_position() -> None:
    dead = letter(record(b"junk"))
    outbound = dead.to_record("dead")
    assert (outbound.key, outbound.value) == (b"u", b"junk")
    assert outbound.headers == [
        ("trace", b"1"),
        ("topic", b"events"),
        ("partition", b"2"),
        ("offset", b"7"),
        ("category", b"invalid"),
        ("reason", dead.reason.encode()),
    ]


def test_a_tombstone_is_a_dead_letter() -> None:
    dead = letter(record(None))
    assert dead.category == "empty"
    assert dead.to_record("dead").value is None


def test_a_record_without_key_and_value_is_a_dead_letter_that_can_be_sent() -> None:
    dead = letter(record(None, key=None))
    assert dead.category == "empty"
    assert dead.to_record("dead").value == b""


@pytest.mark.parametrize("key", [b"v", None, b"", b"\xff", b"u" * 100_000])
def test_an_event_under_another_users_key_is_a_dead_letter(key: bytes | None) -> None:
    dead = letter_of_any_size(record(encode(EVENT), key=key))
    assert dead.category == "wrong_key"
    assert (dead.to_record("dead").key, dead.to_record("dead").value) == (key, encode(EVENT))


def letter_of_any_size(record: ConsumerRecord) -> DeadLetter:
    return decode_events([record], 1_000_000)[1][0]


@pytest.mark.parametrize("text", ["\U000e0001" * 512, "\u202e" * 512, "'" * 512])
def test_a_reason_is_short_and_valid_text_for_any_input(text: str) -> None:
    event = Event(event_id="e", user_id=text, type="view", ts=5, item_id="i")
    dead = letter_of_any_size(record(encode(event)))
    assert dead.category == "wrong_key"
    assert len(dead.reason) <= REASON_LENGTH
    assert dict(dead.to_record("dead").headers or [])["reason"].decode() == dead.reason


def test_a_record_over_the_limit_is_not_decoded_and_its_dead_letter_gives_its_position() -> None:
    dead = letter(record(b'{"x":"' + b"a" * MAX_BYTES))
    assert dead.category == "too_large"
    assert str(MAX_BYTES) in dead.reason
    assert dead.to_record("dead") == OutboundRecord(
        topic="dead",
        key=None,
        value=b"",
        headers=[
            ("topic", b"events"),
            ("partition", b"2"),
            ("offset", b"7"),
            ("category", b"too_large"),
            ("reason", dead.reason.encode()),
        ],
    )


def test_key_and_headers_count_towards_the_limit() -> None:
    large = b"x" * (MAX_BYTES - 8)
    assert isinstance(decode_events([record(encode(EVENT))], MAX_BYTES)[0][0], DecodedEvent)
    assert letter(record(b"junk", key=large)).category == "too_large"
    assert letter(record(b"junk", headers=[("name", large)])).category == "too_large"
    assert letter(record(None, headers=[("n" * MAX_BYTES, None)])).category == "too_large"


@pytest.mark.parametrize("headers", [0, 100, 1000, 2000])
@pytest.mark.parametrize("bytes_less", [4000, 2000, 150, 100, 0])
def test_what_frames_a_record_counts_so_that_every_dead_letter_can_be_sent(headers: int, bytes_less: int) -> None:
    """Empty headers have no bytes of their own, and take two each in a batch."""
    limit, added_bytes = 8192, 4096
    value = b"x" * (limit - bytes_less)
    _, (dead,) = decode_events([record(value, headers=[("", b"")] * headers)], limit)
    sent = dead.to_record("dead")
    assert sent.value == (b"" if dead.category == "too_large" else value)
    assert batch_bytes(sent.key, sent.value, sent.headers or []) <= limit + added_bytes < limit + ENVELOPE_BYTES


def test_headers_that_clients_cannot_decode_are_sent_unchanged() -> None:
    headers: list[tuple[str, bytes | None]] = [(HeaderName(b"\xff"), b"1"), ("null", None), ("reason", b"a producer's")]
    sent = letter(record(b"junk", headers=headers)).to_record("dead").headers or []
    assert [name.encode() for name, _ in sent[:3]] == [b"\xff", b"null", b"reason"]
    assert [value for _, value in sent[:3]] == [b"1", b"", b"a producer's"]


def test_events_around_a_dead_letter_keep_their_order() -> None:
    records = [record(encode(EVENT), offset=1), record(b"x", offset=2), record(encode(EVENT), offset=3)]
    events, dead = decode_events(records, MAX_BYTES)
    assert [event.offset for event in events] == [1, 3]
    assert [dead_letter.record.offset for dead_letter in dead] == [2]


def test_an_item_and_a_tombstone_are_decoded() -> None:
    assert decode_item(record(encode(ITEM), key=b"i"), MAX_BYTES) == ("i", ITEM)
    assert decode_item(record(None, key=b"i"), MAX_BYTES) == ("i", None)


def test_an_invalid_item_is_a_dead_letter_with_its_reason() -> None:
    assert item_letter(b"junk", b"i").category == "invalid"
    assert item_letter(encode(ITEM), b"j").category == "wrong_key"
    assert item_letter(encode(ITEM), None).category == "wrong_key"
    assert item_letter(b"x" * 2 * MAX_BYTES, b"i").category == "too_large"


@pytest.mark.parametrize("key", [b"", b"\xff", b"a\x1fr1", b"a\n", b"k" * 513])
def test_a_tombstone_whose_key_is_not_an_item_id_is_a_dead_letter(key: bytes) -> None:
    dead = item_letter(None, key)
    assert dead.category == "wrong_key"
    assert (dead.to_record("dead").key, dead.to_record("dead").value) == (key, None)


def test_a_tombstone_without_a_key_is_a_dead_letter() -> None:
    assert item_letter(None, None).category == "empty"


@pytest.mark.parametrize("category", ["too_large", "unreadable"])
def test_a_record_that_could_not_be_read_out_of_its_batch_becomes_a_dead_letter_with_its_position(
    category: Any,
) -> None:
    unreadable = record(UnreadableValue(category, "why " * 200), key=None, headers=[])
    for dead in (letter(unreadable), decode_item(unreadable, MAX_BYTES)):
        assert isinstance(dead, DeadLetter)
        sent = dead.to_record("dead")
        assert (sent.key, sent.value, dead.category) == (None, b"", category)
        added = dict(sent.headers or [])
        assert (added["topic"], added["partition"], added["offset"]) == (b"events", b"2", b"7")
        assert added["reason"].startswith(b"why why")
        assert len(added["reason"].decode()) <= REASON_LENGTH


def test_a_record_of_our_own_topics_that_nobody_could_read_is_counted_and_skipped() -> None:
    registry = CollectorRegistry()
    metrics = ConsumerMetrics(registry)
    unreadable = record(UnreadableValue("too_large", "why"), key=None, headers=[], topic="neighbours")
    assert decode_own(messages.neighbours, bytes.decode, unreadable, metrics) is None
    assert registry.get_sample_value("anabranch_messages_passed_over_total", {"topic": "neighbours"}) == 1
