from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from anabranch.co_visit import text_prior
from anabranch.co_visit.stream import CoVisitStream, StreamLimits
from anabranch.co_visit.table import CoVisitTable, neighbour_messages
from anabranch.co_visit.unusual_activity import MIN_EVENTS
from anabranch.co_visit_rule import CoVisitRule
from anabranch.messages import Event
from anabranch.release import Release, digests
from models.co_visit.model import CoVisitModel
from models.co_visit.text_neighbours import text_neighbours
from models.data.event_log import EventLog
from tests.support.releases import write_release

RULE = CoVisitRule(min_users=1, damping=0)
LIMITS = StreamLimits(max_users=1000, dedupe_window=4)
DAY_MS = 86_400_000


def event(number: int, user: str, item: str, session: str | None = "s", ts: int | None = None) -> Event:
    ts = number if ts is None else ts
    return Event(event_id=f"e{number}", user_id=user, type="view", item_id=item, ts=ts, session_id=session)


def shoppers(events: int, users: int = 12, items: int = 9) -> list[Event]:
    random = np.random.default_rng(3)
    return [
        event(n, f"u{random.integers(users)}", f"i{random.zipf(1.5) % items}", f"s{n // 40}", n * DAY_MS // 40)
        for n in range(events)
    ]


def learned(events: Iterable[Event], stream: CoVisitStream | None = None) -> CoVisitStream:
    events = list(events)
    stream = stream or CoVisitStream(RULE, LIMITS)
    stream.learn(events, [-1] * len(events))
    return stream


def whole_table(stream: CoVisitStream) -> CoVisitTable:
    return stream.rows(np.arange(len(stream.item_ids)), 5)


def neighbours(stream: CoVisitStream, item_id: str) -> list[str]:
    rows = neighbour_messages(whole_table(stream), stream.item_ids, 0)
    return [neighbour.item_id for row in rows if row.item_id == item_id for neighbour in row.neighbours]


def test_the_table_is_that_of_a_model_which_learned_the_log_of_the_events() -> None:
    events = shoppers(400)
    log = EventLog.from_events(events)
    stream, model = CoVisitStream(RULE, LIMITS), CoVisitModel(RULE).fit(log)
    for start in range(0, len(events), 37):
        learned(events[start : start + 37], stream)
    assert stream.item_ids == list(log.item_ids)
    expected = list(neighbour_messages(model.table(5), log.item_ids, 0))
    assert list(neighbour_messages(whole_table(stream), stream.item_ids, 0)) == expected


def test_impressions_change_no_count() -> None:
    events = shoppers(200)
    impressions = [
        Event(event_id=f"i{n}", user_id=event.user_id, type="impression", ts=event.ts, shown=("i1", "i2", f"shown {n}"))
        for n, event in enumerate(events)
    ]
    both = [event for pair in zip(events, impressions, strict=True) for event in pair]
    stream, without = learned(both), learned(events)
    assert stream.item_ids == without.item_ids
    assert list(neighbour_messages(whole_table(stream), stream.item_ids, 0)) == list(
        neighbour_messages(whole_table(without), without.item_ids, 0)
    )


def with_texts(folder: Path, item_ids: Sequence[str], rule: CoVisitRule, texts: NDArray[np.float32]) -> Release:
    """A release that has the neighbours of these items by text."""
    manifest = write_release(folder, "r1", item_ids)
    text_prior.write(folder, item_ids, text_neighbours(rule, texts))
    return Release(folder, msgspec.structs.replace(manifest, files=digests(folder)))


def test_with_the_text_neighbours_of_a_release_the_table_is_that_of_a_model_with_the_texts(tmp_path: Path) -> None:
    """The catalogue begins with items that nobody visits, so its numbers are not those of the stream."""
    rule, events = replace(RULE, text_prior=4.0), shoppers(400)
    catalogue = [*(f"unsold{n}" for n in range(20)), *(f"i{n}" for n in range(9))]
    texts = np.random.default_rng(5).normal(size=(len(catalogue), 8)).astype(np.float32)
    texts[25] = 0
    log = EventLog.from_events(events, catalogue)
    model = CoVisitModel(rule, texts=text_neighbours(rule, texts)).fit(log)
    expected = list(neighbour_messages(model.table(20), log.item_ids, 0))
    stream = learned(events[:150], CoVisitStream(rule, LIMITS))
    visited = {stream.item_ids[item] for item in stream.read_texts(with_texts(tmp_path / "r1", catalogue, rule, texts))}
    assert visited == {event.item_id for event in events[:150]}
    learned(events[150:], stream)
    assert stream.items == len(expected) == 9
    table = stream.rows(np.arange(len(stream.item_ids)), 20)
    rows = {row.item_id: row for row in neighbour_messages(table, stream.item_ids, 0)}
    assert rows == {row.item_id: row for row in expected}
    assert any(near.item_id.startswith("unsold") for row in expected for near in row.neighbours)


def test_a_release_without_text_neighbours_takes_those_before_away(tmp_path: Path) -> None:
    rule, catalogue = replace(RULE, text_prior=4.0), [f"i{n}" for n in range(9)]
    texts = np.random.default_rng(5).normal(size=(len(catalogue), 8)).astype(np.float32)
    stream = learned(shoppers(100), CoVisitStream(rule, LIMITS))
    without = whole_table(stream).share
    stream.read_texts(with_texts(tmp_path / "r1", catalogue, rule, texts))
    assert not np.array_equal(whole_table(stream).share, without)
    manifest = write_release(tmp_path / "r2", "r2", catalogue)
    stream.read_texts(Release(tmp_path / "r2", manifest))
    np.testing.assert_array_equal(whole_table(stream).share, without)


def test_a_repeated_event_counts_once() -> None:
    events = [event(0, "ann", "bread"), event(1, "ann", "milk")]
    once, twice = learned(events), CoVisitStream(RULE, LIMITS)
    assert twice.learn([*events, *events], [-1] * 4) == 2
    assert once.counts.memory.items.visits[:2].tolist() == twice.counts.memory.items.visits[:2].tolist()


def test_an_item_of_nothing_but_duplicates_has_no_row() -> None:
    stream = learned([event(0, "ann", "bread")])
    for number in range(2000):
        learned([event(0, "ann", f"other{number}")], stream)
    assert whole_table(stream).item.tolist() == [0]


def test_an_event_happened_no_later_than_it_was_appended() -> None:
    """A clock a century ahead would leave nothing of all other counts."""
    stream = CoVisitStream(RULE, LIMITS)
    stream.learn([event(0, "ann", "bread"), event(1, "ann", "milk", ts=10**14)], [5, 6])
    visits = stream.counts.memory.items.visits[:2]
    assert visits[1] == pytest.approx(visits[0])


def test_who_has_more_events_a_day_than_a_person_leaves_no_further_trace() -> None:
    people = [event(n, f"u{n % 50}", f"i{n % 3}") for n in range(100)]
    program = [event(1000 + n, "bot", f"b{n % 2}") for n in range(MIN_EVENTS + 50)]
    stream = learned([*people, *program])
    assert stream.unusual_users == 1
    visits = stream.counts.memory.items.visits
    before = visits.copy()
    learned([event(9999, "bot", "i0")], stream)
    np.testing.assert_array_equal(visits, before)


def test_what_was_saved_goes_on_as_if_nothing_had_happened() -> None:
    events = shoppers(300)
    whole, again = learned(events), CoVisitStream.from_arrays(RULE, LIMITS, learned(events[:170]).to_arrays())
    learned(events[170:], again)
    assert again.users == whole.users
    for name in ("item", "neighbours", "share", "popularity", "first_seen", "repeat_rate"):
        np.testing.assert_array_equal(getattr(whole_table(again), name), getattr(whole_table(whole), name))


def test_counts_that_were_saved_with_other_limits_are_refused() -> None:
    saved = learned(shoppers(10)).to_arrays()
    with pytest.raises(ValueError, match="4 event ids"):
        CoVisitStream.from_arrays(RULE, StreamLimits(1000, 8), saved)
    with pytest.raises(ValueError, match="histories of 64 items"):
        CoVisitStream.from_arrays(CoVisitRule(history=5), LIMITS, saved)


def test_beyond_the_limit_the_users_who_were_idle_longest_are_forgotten_and_the_counts_stay() -> None:
    limits = StreamLimits(max_users=10, dedupe_window=4)
    stream = CoVisitStream(RULE, limits)
    for n in range(11):
        learned([event(n, f"u{n}", f"i{n}")], stream)
    assert stream.users == 6
    learned([event(20, "u0", "tea"), event(21, "u10", "tea")], stream)
    assert neighbours(stream, "tea") == ["i10"], "u0 begins anew, u10 goes on"
    assert len(whole_table(stream).item) == 12
