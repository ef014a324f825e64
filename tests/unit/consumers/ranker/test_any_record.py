"""Whatever stands in the log, the ranker answers it, once: a million records through decode, fold and rank."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kafka.consumer.fetcher import ConsumerRecord

from anabranch import messages
from anabranch.kafka.headers import sendable
from anabranch.kafka.topics import Topics
from anabranch.messages import REASON_LENGTH, encode
from anabranch.ranking.pipeline import rank
from anabranch.ranking.pipeline.rank import EventBatch
from anabranch.ranking.pipeline.servable import ServableRelease
from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.user_state.block_pool import BlockLists
from anabranch.ranking.user_state.store import StateLayout, UserColumns, UserStates, list_bytes, record_bytes
from anabranch.ranking.vocabulary import ItemVocabulary, ReleaseNumbers
from anabranch.settings import Settings
from consumers.ranker.output import OutputBuilder
from consumers.runtime.dead_letter import DeadLetter, StoredDeadLetter
from consumers.runtime.decoding import DecodedEvent, decode_events, decode_item
from tests.support.odd_records import CATALOGUE, KEYS, LARGEST, NOW_MS, TIMES, OddRecords
from tests.support.releases import DIMS, live_release, write_release

A_MILLION = 1_000_000
FOLDED, RANKED = 2_450, 200
"""Records of one example that are folded, and that are ranked and folded."""
EXAMPLES = 400
BATCH = 256
LAYOUT = StateLayout(history=8, own_items=4, slate=5)
LATEST_MS = 253_402_300_799_999
MAY_BE_INFINITE = {"own_log"}
"""The logarithm of a count of nothing."""

REPEATABLE = settings(derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))


class Ranker:
    """What a ranker does with records, without a broker."""

    def __init__(self, folder: Path) -> None:
        write_release(folder / "r1", "r1", CATALOGUE)
        self._item_ids = ItemVocabulary()
        self._live: ServableRelease = live_release(folder / "r1", self._item_ids, CATALOGUE)
        self._neighbours = CoVisitRows()
        releases = ReleaseNumbers()
        releases.number("r1")
        self._output = OutputBuilder(Topics(Settings()), self._item_ids, releases)

    def replay(self, states: UserStates, received: Sequence[DecodedEvent], ranked: bool) -> None:
        """As a restore does it, of events that the live release ranked or that none did."""
        for batch in self._batches(states, received):
            rank.replay(states, batch, self._live if ranked else None)

    def rank(self, states: UserStates, received: Sequence[DecodedEvent]) -> int:
        """As the main loop does it; how many messages would be published. All of them can be read."""
        published = 0
        for start, batch in enumerate(self._batches(states, received)):
            ranked = rank.rank(self._live, self._neighbours, states, batch, Policy(slate=LAYOUT.slate))
            assert np.isfinite(ranked.score).all()
            here = received[start * BATCH : (start + 1) * BATCH]
            for message in self._output.records(here, ranked, "r1", NOW_MS):
                codec = messages.rankings if message.topic == "rankings" else messages.feedback
                assert message.value is not None
                codec.decode(message.value)
                published += 1
        return published

    def _batches(self, states: UserStates, received: Sequence[DecodedEvent]) -> Iterator[EventBatch]:
        for start in range(0, len(received), BATCH):
            here = received[start : start + BATCH]
            slots = states.slots([one.event.user_id for one in here], [one.partition for one in here])
            yield EventBatch.from_events(
                [one.event for one in here], slots, self._item_ids, [one.appended_ms for one in here]
            )


@pytest.fixture(scope="module")
def ranker(tmp_path_factory: pytest.TempPathFactory) -> Ranker:
    return Ranker(tmp_path_factory.mktemp("releases"))


def blank_states() -> UserStates:
    return UserStates(LAYOUT, DIMS, DIMS)


def assert_answered(records: Sequence[ConsumerRecord]) -> list[DecodedEvent]:
    """Every record is received, or a dead letter that says why and holds what came; the received ones."""
    received, dead = decode_events(records, LARGEST)
    places = [one.offset for one in received] + [one.record.offset for one in dead]
    assert sorted(places) == list(range(len(records)))
    for one in received:
        assert records[one.offset].key == one.event.user_id.encode()
        assert messages.events.decode(encode(one.event)) == one.event
    for letter in dead:
        assert_whole(letter)
    return received


def assert_whole(dead: DeadLetter) -> None:
    """The letter can be sent, and read back as what came."""
    record, sent = dead.record, dead.to_record("dead")
    assert sent.key is not None or sent.value is not None
    assert 0 < len(dead.reason) <= REASON_LENGTH
    assert all(isinstance(name, str) and isinstance(value, bytes) for name, value in sent.headers or [])
    letter = StoredDeadLetter.from_record(record._replace(key=sent.key, value=sent.value, headers=sent.headers))
    assert (letter.partition, letter.offset, letter.category) == (record.partition, record.offset, dead.category)
    assert letter.reason == dead.reason
    if dead.category != "too_large":
        assert (letter.key, letter.value, letter.headers) == (record.key, record.value, sendable(record.headers))


def assert_sound(states: UserStates, users: int) -> None:
    """Every number is finite, every time one that an event can have, and there is as much state as there are users."""
    assert len(states) == users
    lists, columns = states.copy(np.arange(users)).lists, states.columns
    for name, values in ({**columns._asdict(), **lists._asdict()}).items():
        assert not np.isnan(values).any()
        assert name in MAY_BE_INFINITE or np.isfinite(values).all()
    assert (lists.own_log < np.inf).all()
    times = columns.last_ts[columns.last_ts != -1]
    assert ((times >= 0) & (times <= LATEST_MS)).all()
    in_lists = list_bytes(np.minimum(columns.observed[:users], LAYOUT.history), columns.own_size[:users]).sum()
    assert states.nbytes == users * sum(record_bytes(LAYOUT, DIMS, DIMS).values()) + in_lists


def assert_ranked_as_folded(ranked: UserStates, folded: UserStates) -> None:
    """A restored state is the state that was lost, to the last bit, but for the slate that was shown."""
    for name in set(UserColumns._fields) - {"slate", "slate_release", "history_page", "own_page"}:
        assert np.array_equal(getattr(ranked.columns, name), getattr(folded.columns, name)), name
    users = np.arange(len(ranked))
    for name, one, other in zip(BlockLists._fields, ranked.copy(users).lists, folded.copy(users).lists, strict=True):
        assert np.array_equal(one, other), name


def feed(ranker: Ranker, records: Sequence[ConsumerRecord], ranks: bool) -> None:
    received = assert_answered(records)
    users = len({(one.partition, one.event.user_id) for one in received})
    folded = blank_states()
    ranker.replay(folded, received, ranked=ranks)
    assert_sound(folded, users)
    if ranks:
        states = blank_states()
        published = ranker.rank(states, received)
        assert published <= 2 * len(received)
        assert_sound(states, users)
        assert_ranked_as_folded(states, folded)


def test_a_million_records_of_any_kind_are_decoded_or_dead_letters_and_leave_valid_states(ranker: Ranker) -> None:
    """The million: 400 examples, each a seed that hypothesis draws, which makes 2,650 records, all checked."""
    fed = 0

    @settings(REPEATABLE, max_examples=EXAMPLES)
    @given(seed=st.integers(0, 2**64 - 1))
    def any_seed(seed: int) -> None:
        nonlocal fed
        source = OddRecords(seed)
        feed(ranker, source.take(FOLDED), ranks=False)
        feed(ranker, source.take(RANKED), ranks=True)
        fed += FOLDED + RANKED

    any_seed()
    assert fed >= A_MILLION


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
    """Half a surrogate pair is escaped by one way of writing, and is no UTF-8 by the other."""
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
RECORDS = st.lists(
    st.tuples(
        PAYLOADS,
        st.sampled_from([b"u", b"v", *KEYS]) | st.binary(max_size=5),
        st.sampled_from([NOW_MS, *TIMES]),
        st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5)), max_size=2),
    ),
    max_size=30,
)


@settings(REPEATABLE, max_examples=300)
@given(drawn=RECORDS)
def test_records_that_hypothesis_generates_are_decoded_or_dead_letters(
    ranker: Ranker, drawn: list[tuple[bytes | None, bytes | None, int, list[tuple[str, bytes | None]]]]
) -> None:
    """Fewer than above, but made to find what is wrong, and to make it small when it is found."""
    records = [
        ConsumerRecord("events", 0, 0, offset, appended, 1, key, value, headers, None, 0, 0, 0)
        for offset, (value, key, appended, headers) in enumerate(drawn)
    ]
    feed(ranker, records, ranks=True)
    for record in records:
        item = decode_item(record, LARGEST)
        if isinstance(item, DeadLetter):
            assert_whole(item)
        else:
            assert record.key == item.item_id.encode()
