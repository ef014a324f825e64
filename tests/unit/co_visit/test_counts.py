from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anabranch.co_visit.counts import CoVisitCounts, Visits
from anabranch.co_visit.memory import NONE
from anabranch.co_visit_rule import CoVisitRule

DAY_MS = 86_400_000
RULE = CoVisitRule(window=3, history=5, gap_power=0.5, backward=0.5, across=0.25, user_cap=2.0, half_life_ms=DAY_MS)
Visit = tuple[int, int, int, int]
"""User, item, session and time, in days."""


def as_visits(visits: list[Visit]) -> Visits:
    user, item, session, day = np.array(visits, np.int64).reshape(-1, 4).T
    return Visits(user, item, day * DAY_MS, session, np.ones(len(user), np.bool_))


def pairs_by_hand(visits: list[Visit]) -> dict[tuple[int, int], float]:
    """(Item, neighbour) → count, by the words of `CoVisitRule`."""
    counts: dict[tuple[int, int], float] = defaultdict(float)
    seen: dict[int, list[tuple[int, int]]] = defaultdict(list)
    taken: dict[tuple[int, int], float] = defaultdict(float)
    for user, item, session, day in visits:
        if item == NONE:
            continue
        weight = 2.0 ** (day - visits[0][3])
        weight = min(weight, max(0.0, RULE.user_cap * weight - taken[user, item]))
        taken[user, item] += weight
        newest, paired = list(reversed(seen[user]))[: RULE.history], {item}
        for gap, (earlier, of_session) in enumerate(newest[: RULE.window]):
            if earlier not in paired:
                paired.add(earlier)
                pair = weight * (gap + 1) ** -RULE.gap_power * (1.0 if of_session == session else RULE.across)
                counts[earlier, item] += pair
                counts[item, earlier] += pair * RULE.backward
        seen[user].append((item, session))
    return {pair: count for pair, count in counts.items() if count}


def pairs(counts: CoVisitCounts) -> dict[tuple[int, int], float]:
    rows, found = counts.memory.neighbours, {}
    for item in range(len(rows.start)):
        entries = slice(rows.start[item], rows.start[item] + rows.length[item])
        for neighbour, count in zip(rows.keys[entries].tolist(), rows.counts[entries].tolist(), strict=True):
            if count:
                found[item, neighbour] = count
    return found


ONE_SESSION_A_DAY = st.lists(
    st.tuples(st.integers(0, 2), st.integers(NONE, 5), st.integers(0, 3)).map(lambda v: (v[0], v[1], v[2], v[2])),
    max_size=60,
).map(lambda visits: sorted(visits, key=lambda visit: visit[3]))


@settings(max_examples=100, deadline=None)
@given(ONE_SESSION_A_DAY)
def test_pairs_are_counted_by_the_words_of_the_rule(visits: list[Visit]) -> None:
    counts = CoVisitCounts(RULE)
    counts.learn(as_visits(visits))
    assert pairs(counts) == pytest.approx(pairs_by_hand(visits))


@settings(max_examples=30, deadline=None)
@given(ONE_SESSION_A_DAY, st.integers(1, 20))
def test_it_does_not_matter_in_which_batches_visits_come(visits: list[Visit], size: int) -> None:
    whole, by_batches = CoVisitCounts(RULE), CoVisitCounts(RULE)
    whole.learn(as_visits(visits))
    for start in range(0, len(visits), size):
        by_batches.learn(as_visits(visits[start : start + size]))
    assert pairs(by_batches) == pairs(whole)
    np.testing.assert_array_equal(by_batches.visited_items, whole.visited_items)


def taken(counts: CoVisitCounts) -> tuple[list[int], list[int]]:
    """The changed items: by new ones, and otherwise."""
    changed = counts.take_changed()
    return changed.by_new.tolist(), changed.otherwise.tolist()


def test_the_items_of_a_pair_are_changed_until_they_are_taken_and_by_new_ones_on_the_first_day_of_one() -> None:
    counts = CoVisitCounts(RULE)
    counts.learn(as_visits([(0, 7, 1, 0), (0, 2, 1, 0), (1, 5, 2, 0)]))
    assert taken(counts) == ([2, 7], [5]), "5 is in no pair"
    counts.learn(as_visits([(1, 2, 2, 0)]))
    assert taken(counts) == ([2, 5], []), "5 is new"
    counts.learn(as_visits([(2, 5, 4, 2), (2, 2, 4, 2)]))
    assert taken(counts) == ([], [2, 5]), "neither is new any more"
    assert taken(counts) == ([], [])


def test_a_user_whose_visits_do_not_count_leaves_no_trace_but_a_history() -> None:
    counts = CoVisitCounts(RULE)
    visits = as_visits([(0, 1, 1, 0), (0, 2, 1, 0)])
    counts.learn(visits._replace(is_counted=np.zeros(2, np.bool_)))
    assert (pairs(counts), counts.visited_items.tolist(), counts.newest_items(0, 5).tolist()) == ({}, [], [2, 1])
