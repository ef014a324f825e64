"""Arbitrary records: each is decoded, replayed and ranked, or becomes a dead letter.

`FUZZ_RECORDS=1000000`, as of `make fuzz`, makes more of them than a run of all tests needs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kafka.consumer.fetcher import ConsumerRecord
from numpy.typing import NDArray

from anabranch import messages
from anabranch.kafka.headers import sendable
from anabranch.kafka.records import batch_bytes
from anabranch.kafka.topics import ENVELOPE_BYTES, Topics
from anabranch.messages import REASON_LENGTH, encode
from anabranch.ranking.event_batch import EventBatch
from anabranch.ranking.pipeline import rank, user_update
from anabranch.ranking.pipeline.servable import ServableRelease
from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.user_state.block_pool import list_bytes
from anabranch.ranking.user_state.columns import UserColumns, record_bytes
from anabranch.ranking.user_state.store import UserStates
from anabranch.ranking.user_state.user_lists import UserLists
from anabranch.ranking.vocabulary import ItemVocabulary, ReleaseNumbers
from anabranch.settings import Settings
from consumers.ranker.output import OutputBuilder
from consumers.runtime.dead_letter import POSITION_ONLY, DeadLetter, StoredDeadLetter
from consumers.runtime.decoding import DecodedEvent, decode_events, decode_item
from tests.support.layouts import LAYOUT as DEFAULT_LAYOUT
from tests.support.odd_batches import through_batches, unreadable_count
from tests.support.odd_records import CATALOGUE, KEYS, MAX_BYTES, NOW_MS, TIMES, OddRecords
from tests.support.releases import DIMS, live_release, write_release

RECORDS = int(os.environ.get("FUZZ_RECORDS", "100000"))
REPLAYED, RANKED = 2_450, 200
"""Records of one example that are only replayed, and that are both ranked and replayed."""
EXAMPLES = -(-RECORDS // (REPLAYED + RANKED))
ADDED_BYTES = 4096
"""More than a dead letter adds to its record."""
BATCH = 256
LAYOUT = DEFAULT_LAYOUT._replace(history=8, long_term_items=4, slate=5)
LATEST_MS = 253_402_300_799_999
MAY_BE_INFINITE = {"log2_decayed_count"}
"""The logarithm of a count of 0."""

REPEATABLE = settings(derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))


class Ranker:
    """Replays and ranks records as a ranker does, without a broker."""

    def __init__(self, folder: Path) -> None:
        write_release(folder / "r1", "r1", CATALOGUE)
        self._item_ids = ItemVocabulary()
        self._live: ServableRelease = live_release(folder / "r1", self._item_ids, CATALOGUE)
        self._neighbours = CoVisitRows()
        releases = ReleaseNumbers()
        releases.number("r1")
        self._output = OutputBuilder(Topics(Settings()), self._item_ids, releases, ("for_you",))

    def replay(self, states: UserStates, received: Sequence[DecodedEvent], ranked: bool) -> None:
        """Replay events as recovery does: events that the live release ranked, or that no release ranked."""
        for batch in self._batches(states, received):
            user_update.replay(states, batch, self._live if ranked else None)

    def rank(self, states: UserStates, received: Sequence[DecodedEvent]) -> int:
        """Rank events as the main loop does, and decode the output again; the number of its records."""
        published = 0
        for start, batch in enumerate(self._batches(states, received)):
            ranked = rank.rank(self._live, self._neighbours, states, batch, Policy())
            assert np.isfinite(ranked.score).all()
            batch_events = received[start * BATCH : (start + 1) * BATCH]
            for message in self._output.records(batch_events, ranked, "r1", NOW_MS):
                codec = messages.rankings if message.topic == "rankings" else messages.feedback
                assert message.value is not None
                codec.decode(message.value)
                published += 1
        return published

    def _batches(self, states: UserStates, received: Sequence[DecodedEvent]) -> Iterator[EventBatch]:
        for start in range(0, len(received), BATCH):
            events = received[start : start + BATCH]
            slots = states.slots([event.event.user_id for event in events], [event.partition for event in events])
            yield EventBatch.from_events(
                [event.event for event in events], slots, self._item_ids, [event.appended_ms for event in events]
            )


@pytest.fixture(scope="module")
def ranker(tmp_path_factory: pytest.TempPathFactory) -> Ranker:
    return Ranker(tmp_path_factory.mktemp("releases"))


def blank_states() -> UserStates:
    return UserStates(LAYOUT, DIMS, DIMS)


def assert_decoded_or_dead_letter(records: Sequence[ConsumerRecord]) -> list[DecodedEvent]:
    """Check that every record is decoded or becomes a complete dead letter; the decoded events."""
    received, dead = decode_events(records, MAX_BYTES)
    offsets = [event.offset for event in received] + [dead_letter.record.offset for dead_letter in dead]
    assert sorted(offsets) == list(range(len(records)))
    for decoded in received:
        assert records[decoded.offset].key == decoded.event.user_id.encode()
        assert messages.events.decode(encode(decoded.event)) == decoded.event
    for dead_letter in dead:
        assert_complete(dead_letter)
    return received


def assert_complete(dead: DeadLetter) -> None:
    """The dead letter can be sent, and holds the original record."""
    record, sent = dead.record, dead.to_record("dead")
    assert sent.key is not None or sent.value is not None
    assert batch_bytes(sent.key, sent.value, sent.headers or []) <= MAX_BYTES + ADDED_BYTES < MAX_BYTES + ENVELOPE_BYTES
    assert 0 < len(dead.reason) <= REASON_LENGTH
    assert all(isinstance(name, str) and isinstance(value, bytes) for name, value in sent.headers or [])
    stored = StoredDeadLetter.from_record(record._replace(key=sent.key, value=sent.value, headers=sent.headers))
    assert (stored.partition, stored.offset, stored.category) == (record.partition, record.offset, dead.category)
    assert stored.reason == dead.reason
    if dead.category not in POSITION_ONLY:
        assert (stored.key, stored.value, stored.headers) == (record.key, record.value, sendable(record.headers))


def assert_valid_states(states: UserStates, users: int) -> None:
    """Every number is finite, every time is valid for an event, and the size matches the number of users."""
    assert len(states) == users
    lists, columns = states.snapshot(np.arange(users)).lists, states.columns
    for name, values in (columns._asdict() | list_arrays(lists)).items():
        assert not np.isnan(values).any()
        assert name in MAY_BE_INFINITE or np.isfinite(values).all()
    assert (lists.long_term.log2_decayed_count < np.inf).all()
    times = columns.last_ts[columns.last_ts != -1]
    assert ((times >= 0) & (times <= LATEST_MS)).all()
    in_lists = list_bytes(np.minimum(columns.event_count[:users], LAYOUT.history), columns.long_term_size[:users]).sum()
    assert states.nbytes == users * sum(record_bytes(LAYOUT, DIMS, DIMS).values()) + in_lists


def assert_ranked_as_replayed(ranked: UserStates, replayed: UserStates) -> None:
    """A replayed state equals the state after ranking bit by bit, except for the last slate."""
    for name in set(UserColumns._fields) - {"slate", "slate_release", "history_block", "long_term_block"}:
        assert np.array_equal(getattr(ranked.columns, name), getattr(replayed.columns, name)), name
    users = np.arange(len(ranked))
    ranked_lists, replayed_lists = (list_arrays(states.snapshot(users).lists) for states in (ranked, replayed))
    for name, values in ranked_lists.items():
        assert np.array_equal(values, replayed_lists[name]), name


def list_arrays(lists: UserLists) -> dict[str, NDArray[Any]]:
    arrays = lists._asdict()
    long_term = arrays.pop("long_term")
    return arrays | long_term._asdict()


def feed(ranker: Ranker, records: Sequence[ConsumerRecord], ranks: bool) -> None:
    received = assert_decoded_or_dead_letter(records)
    users = len({(event.partition, event.event.user_id) for event in received})
    replayed = blank_states()
    ranker.replay(replayed, received, ranked=ranks)
    assert_valid_states(replayed, users)
    if ranks:
        states = blank_states()
        published = ranker.rank(states, received)
        assert published <= 2 * len(received)
        assert_valid_states(states, users)
        assert_ranked_as_replayed(states, replayed)


@pytest.mark.timeout(900)  # a million take a minute on two idle cores
def test_records_of_any_kind_are_decoded_or_dead_letters_and_leave_valid_states(ranker: Ranker) -> None:
    """Hypothesis draws the random seed of each example, which generates 2,650 records. All of them are checked.

    They are read from batches of every codec, some of which cannot be read.
    """
    fed = unreadable = 0

    @settings(REPEATABLE, max_examples=EXAMPLES)
    @given(random_seed=st.integers(0, 2**64 - 1))
    def any_random_seed(random_seed: int) -> None:
        nonlocal fed, unreadable
        source = OddRecords(random_seed)
        for count, ranks in ((REPLAYED, False), (RANKED, True)):
            records = through_batches(source.take(count), random_seed)
            feed(ranker, records, ranks)
            fed += count
            unreadable += unreadable_count(records)

    any_random_seed()
    assert fed >= RECORDS
    assert 0.01 < unreadable / fed < 0.05


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)
EVENT_LIKE = st.fixed_dictionaries(
    {
        "event_id": st.text(max_size=5) | ANY_JSON,
        "user_id": st.sampled_from(["u", "v"]) | ANY_JSON,
        "type": st.sampled_from(messages.EVENT_TYPES) | ANY_JSON,
        "ts": st.integers(0, 2 * NOW_MS) | ANY_JSON,
    },
    optional={
        name: st.text(max_size=5) | ANY_JSON
        for name in ("item_id", "query", "session_id", "domain", "context", "other")
    },
)


def as_bytes(write: Callable[[object], str]) -> Callable[[object], bytes]:
    """A lone surrogate is either escaped, which is valid JSON, or written as bytes that are not UTF-8."""
    return lambda value: write(value).encode(errors="surrogatepass")


ITEM_LIKE = st.fixed_dictionaries(
    {"item_id": st.sampled_from(["u", "v"]) | ANY_JSON, "title": st.text(max_size=5) | ANY_JSON},
    optional={name: ANY_JSON for name in ("description", "brand", "category", "price", "available", "vectors")},
)
PAYLOADS = st.one_of(
    ITEM_LIKE.map(as_bytes(json.dumps)),
    EVENT_LIKE.map(as_bytes(json.dumps)),
    EVENT_LIKE.map(as_bytes(lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":")))),
    ANY_JSON.map(as_bytes(json.dumps)),
    st.text().map(str.encode),
    st.binary(),
    st.none(),
)
ANY_RECORDS = st.lists(
    st.tuples(
        PAYLOADS,
        st.sampled_from([b"u", b"v", *KEYS]) | st.binary(max_size=5),
        st.sampled_from([NOW_MS, *TIMES]),
        st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5)), max_size=2),
    ),
    max_size=30,
)


@settings(REPEATABLE, max_examples=300)
@given(drawn=ANY_RECORDS)
def test_records_that_hypothesis_generates_are_decoded_or_dead_letters(
    ranker: Ranker, drawn: list[tuple[bytes | None, bytes | None, int, list[tuple[str, bytes | None]]]]
) -> None:
    """Fewer records than above, but Hypothesis shrinks a failing example to a small one."""
    records = [
        ConsumerRecord("events", 0, 0, offset, appended, 1, key, value, headers, None, 0, 0, 0)
        for offset, (value, key, appended, headers) in enumerate(drawn)
    ]
    feed(ranker, records, ranks=True)
    for record in records:
        item = decode_item(record, MAX_BYTES)
        if isinstance(item, DeadLetter):
            assert_complete(item)
        else:
            assert record.key == item.item_id.encode()
