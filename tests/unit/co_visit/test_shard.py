from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anabranch.co_visit.shard import Shard
from anabranch.co_visit.stream import CoVisitStream, StreamLimits
from anabranch.co_visit.table import neighbour_messages
from anabranch.co_visit_rule import CoVisitRule
from anabranch.messages import Event, Neighbours
from anabranch.settings_loader import load

DAY_MS = 86_400_000
LIMITS = StreamLimits(max_users=4, dedupe_window=4)
WIDTH = 3
CHUNK = 7
"""Events that are learned at once. Counts are saved and restored after the third chunk."""
RULE = CoVisitRule(row_bound=2, window=4, gap_power=0.5, backward=0.5, across=0.5, user_cap=2.0, min_users=1)
RULES = st.sampled_from([RULE, CoVisitRule(row_bound=3, backward=0.0, min_users=2), CoVisitRule(min_users=1)])
EVENTS = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 9), st.integers(0, 3), st.integers(0, 80)),
    min_size=3 * CHUNK,
    max_size=80,
).map(lambda drawn: [event(*columns) for columns in sorted(drawn, key=lambda columns: columns[2])])


def event(user: int, item: int, day: int, number: int) -> Event:
    """Of ten items and 81 event ids, so that some are duplicates. A session is a day."""
    ts = day * DAY_MS
    return Event(event_id=f"e{number}", user_id=f"u{user}", type="view", item_id=f"i{item}", ts=ts, session_id=f"{day}")


def states(events: list[Event], rule: CoVisitRule, shard: Shard) -> list[tuple[list[Neighbours], list[str], list[str]]]:
    """After each chunk of the events: the rows of all items, and the ids of those that changed, by new ones or not."""
    stream, result = CoVisitStream(rule, LIMITS, shard), []
    for start in range(0, len(events), CHUNK):
        chunk = events[start : start + CHUNK]
        stream.learn(chunk, [-1] * len(chunk))
        stream.watch_activity()
        if start == 2 * CHUNK:
            stream = CoVisitStream.from_arrays(rule, LIMITS, stream.to_arrays(), shard)
        table, changed = stream.rows(np.arange(len(stream.item_ids)), WIDTH), stream.counts.take_changed()
        ids = [[stream.item_ids[item] for item in items] for items in changed]
        result.append((list(neighbour_messages(table, stream.item_ids, 0)), *ids))
    return result


@settings(max_examples=40, deadline=None)
@given(EVENTS, RULES, st.sampled_from([1, 2, 3]))
def test_all_shards_together_have_exactly_the_rows_and_the_changes_of_one_process(
    events: list[Event], rule: CoVisitRule, count: int
) -> None:
    whole = states(events, rule, Shard())
    of_shards = [states(events, rule, Shard(number, count)) for number in range(count)]
    for n, (rows, by_new, otherwise) in enumerate(whole):
        rows_of_shards = [row for shard in of_shards for row in shard[n][0]]
        assert sorted(rows_of_shards, key=lambda row: row.item_id) == sorted(rows, key=lambda row: row.item_id)
        assert sorted(item for shard in of_shards for item in shard[n][1]) == sorted(by_new)
        assert sorted(item for shard in of_shards for item in shard[n][2]) == sorted(otherwise)


def test_a_shard_counts_no_pairs_in_the_rows_of_other_items() -> None:
    events = [event(n % 3, n % 10, 0, n) for n in range(60)]
    whole, half = CoVisitStream(RULE, LIMITS), CoVisitStream(RULE, LIMITS, Shard(1, 2))
    for stream in (whole, half):
        stream.learn(events, [-1] * len(events))
    items = range(len(half.item_ids))
    of_shard = [item for item in items if Shard(1, 2).has(half.item_ids[item])]
    assert 0 < len(of_shard) < 10, "the ten ids are in both shards"
    lengths = half.counts.memory.neighbours.length[:10]
    assert [item for item in items if lengths[item]] == of_shard
    assert (half.items, whole.items) == (len(of_shard), 10)
    assert half.counts.memory.neighbours.used[0] < whole.counts.memory.neighbours.used[0]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_item_is_in_one_shard_and_the_shards_are_about_equal(count: int) -> None:
    sizes = np.zeros(count, np.int64)
    for item in range(2000):
        holders = [number for number in range(count) if Shard(number, count).has(f"item {item}")]
        assert len(holders) == 1
        sizes[holders] += 1
    assert sizes.max() < 1.3 * sizes.min()


def test_an_item_stays_in_its_shard_in_every_process_and_version() -> None:
    """By another rule, saved counts would go on as those of items that they have no rows of."""
    assert [[Shard(n, 3).has(item) for n in range(3)].index(True) for item in ("a", "b", "c", "d")] == [2, 2, 0, 2]


def test_the_shard_of_a_process_is_what_its_settings_say() -> None:
    env = {"ANABRANCH_NEIGHBOURS_SHARDS": "3", "ANABRANCH_NEIGHBOURS_SHARD": "2"}
    assert Shard.from_settings(load(None, env)) == Shard(2, 3)
    assert Shard.from_settings(load(None, {})) == Shard()
