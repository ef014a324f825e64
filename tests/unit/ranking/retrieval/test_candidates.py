"""Candidates, against the same union computed with dictionaries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from anabranch.co_visit_scoring import CoVisitScoring
from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.candidate_columns import (
    BY_CO_VISITS,
    BY_INDEX,
    BY_NEWNESS,
    BY_OWN_EVENTS,
    BY_POPULARITY,
    NEVER_S,
    Candidates,
)
from anabranch.ranking.retrieval.candidates import POPULAR_TO_NEW_USERS, propose
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.retrieval.item_attributes import NO_NAME, ItemAttributes, category_hashes
from anabranch.ranking.retrieval.item_index import ItemIndex
from anabranch.ranking.user_state.snapshot import UserSnapshots
from tests.support.layouts import LAYOUT

ITEMS, USERS, HISTORY, OWN = 60, 40, 12, 8
NOW_S, HALF_LIFE_S = 10_000, 1_000
UNAVAILABLE_EVERY = 5
"""Every n-th item is unavailable."""


@dataclass
class Expected:
    """The columns of one candidate."""

    co_visit_last: float = 0.0
    co_visit_recent: float = 0.0
    own: float = 0.0
    own_count: float = 0.0
    own_first_s: int = NEVER_S
    own_last_s: int = 0
    session: list[int] = field(default_factory=list)
    co_visit_session: float = 0.0
    session_category: int = 0
    proposed_by: int = 0


class RandomQueries:
    """Random users, some of them new, and a catalogue in which some items have neighbours, and categories."""

    def __init__(self, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.index = ItemIndex(4)
        available = np.arange(ITEMS) % UNAVAILABLE_EVERY > 0
        hashes = np.arange(1, ITEMS + 1).astype(np.uint64)
        paths = [[], ["food"], ["food", "soup"], ["food", "bread"], ["toys"]]
        self.categories = category_hashes(paths[n] for n in random.integers(0, len(paths), ITEMS))
        vectors = random.normal(size=(ITEMS, 4)).astype(np.float32)
        attributes = replace(ItemAttributes.none(ITEMS), categories=self.categories)
        self.index.upsert(np.arange(ITEMS, dtype=np.int32), vectors, available, hashes, attributes)
        self.neighbours = CoVisitRows(max_width=3)
        for item in range(0, ITEMS, 2):
            near = random.choice(ITEMS, random.integers(0, 4), replace=False).astype(np.int32)
            self.neighbours.set(item, near, random.random(len(near)).astype(np.float32), 0.1 + item % 7, 0, 0.2)
        lengths = random.integers(0, HISTORY + 1, USERS)
        recent = random.integers(0, ITEMS, (USERS, HISTORY)).astype(np.int32)
        recent[np.arange(HISTORY) >= lengths[:, None]] = -1
        self.queries = queries = UserSnapshots.empty(
            USERS, dims=4, layout=LAYOUT._replace(history=HISTORY, long_term_items=OWN)
        )
        queries.vector[:] = random.normal(size=(USERS, 4))
        queries.now[:] = 1000 * NOW_S
        queries.recent[:] = recent
        queries.recent_s[:] = random.integers(0, NOW_S, (USERS, HISTORY))
        queries.session_length[:] = random.integers(0, lengths + 1)
        queries.long_term_size[:] = random.integers(OWN // 2, OWN + 1, USERS)
        queries.long_term.item[:] = np.stack([random.permutation(ITEMS)[:OWN] for _ in range(USERS)])
        queries.long_term.log2_decayed_count[:] = random.normal(size=(USERS, OWN)) + NOW_S / HALF_LIFE_S
        queries.long_term.event_count[:] = random.integers(1, 9, (USERS, OWN))
        queries.long_term.first_s[:] = random.integers(0, NOW_S // 2, (USERS, OWN))
        queries.long_term.last_s[:] = random.integers(NOW_S // 2, NOW_S, (USERS, OWN))

    def own_of(self, user: int) -> Iterator[tuple[int, float, float, int, int]]:
        """(item, decayed count, count, first s, last s) of every event of the history and every long-term item."""
        queries = self.queries
        for item, second in zip(queries.recent[user].tolist(), queries.recent_s[user].tolist(), strict=True):
            if item >= 0:
                yield item, 2 ** ((second - NOW_S) / HALF_LIFE_S), 1, second, second
        for index in range(int(queries.long_term_size[user])):
            yield (
                int(queries.long_term.item[user, index]),
                2 ** (float(queries.long_term.log2_decayed_count[user, index]) - NOW_S / HALF_LIFE_S),
                float(queries.long_term.event_count[user, index]),
                int(queries.long_term.first_s[user, index]),
                int(queries.long_term.last_s[user, index]),
            )

    def expected(self, user: int, policy: Policy) -> dict[int, Expected]:
        queries, table = self.queries, self.neighbours.columns
        by_item: dict[int, Expected] = {}

        def expected_of(item: int) -> Expected:
            return by_item.setdefault(item, Expected())

        session = queries.recent[user, : queries.session_length[user]].tolist()
        for back, item in enumerate(session):
            expected_of(item).session.append(back)
        for item, decayed, count, first_s, last_s in self.own_of(user):
            entry = expected_of(item)
            entry.own, entry.own_count = entry.own + decayed, entry.own_count + count
            entry.proposed_by |= BY_OWN_EVENTS
            entry.own_first_s, entry.own_last_s = min(entry.own_first_s, first_s), max(entry.own_last_s, last_s)
        for recent in queries.recent[user, : policy.recent].tolist():
            for near in table.rows[recent].tolist() if recent >= 0 else ():
                expected_of(near).proposed_by |= BY_CO_VISITS
        if queries.recent[user, 0] < 0:
            for item in self.neighbours.most_popular(POPULAR_TO_NEW_USERS, self.index.columns.hashes).tolist():
                expected_of(item).proposed_by |= BY_POPULARITY
        excluded = (set() if policy.allow_session_repeats else set(session)) | (
            {item for item, *_ in self.own_of(user)} if policy.exclude_seen else set()
        )
        nearest = self.index.search(queries.vector[user : user + 1], ITEMS)[0][0].tolist()
        new = [item for item in nearest if item >= 0 and table.first_seen[item] < 0]
        for item in new[: policy.explore_places * policy.explore_new_items]:
            expected_of(item).proposed_by |= BY_NEWNESS
        for item in [item for item in nearest if item >= 0 and item not in excluded][: policy.retrieval_k]:
            expected_of(item).proposed_by |= BY_INDEX
        scoring = policy.co_visit_scoring
        for back, recent in enumerate(queries.recent[user, : scoring.recent].tolist()):
            expected_of(recent).co_visit_recent += scoring.decay**back * scoring.own_share
            for near, weight in zip(table.rows[recent].tolist(), table.weights[recent].tolist(), strict=True):
                if recent >= 0 and near in by_item:
                    expected_of(near).co_visit_recent += scoring.decay**back * weight
                    expected_of(near).co_visit_last += weight if back == 0 else 0
        for recent in session:
            for near, weight in zip(table.rows[recent].tolist(), table.weights[recent].tolist(), strict=True):
                if near in by_item:
                    expected_of(near).co_visit_session += weight
        for item, entry in by_item.items():
            if item >= 0:
                of_category = self.categories[session] == self.categories[item]
                entry.session_category = int(of_category.sum()) if self.categories[item] != NO_NAME else 0
        return {
            item: entry
            for item, entry in by_item.items()
            if item >= 0 and item % UNAVAILABLE_EVERY and item not in excluded
        }


def candidates_of(candidates: Candidates, user: int) -> dict[int, Expected]:
    """The candidates of one user, with the newest position in the session repeated."""
    return {
        int(candidates.item[n]): Expected(
            pytest.approx(float(candidates.co_visit_last[n]), abs=1e-6),
            pytest.approx(float(candidates.co_visit_recent[n]), abs=1e-6),
            pytest.approx(float(candidates.own[n]), rel=1e-4),
            float(candidates.own_count[n]),
            int(candidates.own_first_s[n]),
            int(candidates.own_last_s[n]),
            [int(candidates.session_at[n])] * int(candidates.session_count[n]),
            pytest.approx(float(candidates.co_visit_session[n]), abs=1e-6),
            int(candidates.session_category[n]),
            int(candidates.proposed_by[n]),
        )
        for n in np.flatnonzero(candidates.query == user).tolist()
    }


@pytest.mark.parametrize("explore_places", [0, 2])
@pytest.mark.parametrize("exclude_seen", [False, True])
@pytest.mark.parametrize("allow_session_repeats", [False, True])
def test_candidates_are_the_union_of_the_sources_without_excluded_items(
    allow_session_repeats: bool, exclude_seen: bool, explore_places: int
) -> None:
    random_queries = RandomQueries()
    policy = Policy(
        retrieval_k=10,
        recent=4,
        co_visit_scoring=CoVisitScoring(recent=6, decay=0.6, own_share=0.2),
        exclude_seen=exclude_seen,
        allow_session_repeats=allow_session_repeats,
        explore_places=explore_places,
        explore_new_items=4,
    )
    assert (random_queries.queries.recent[:, 0] < 0).any()
    candidates = propose(random_queries.queries, random_queries.index, random_queries.neighbours, policy, HALF_LIFE_S)
    for user in range(USERS):
        expected = random_queries.expected(user, policy)
        for entry in expected.values():
            entry.session = [min(entry.session)] * len(entry.session) if entry.session else []
        assert candidates_of(candidates, user) == expected
        assert candidates.all_own[user] == pytest.approx(sum(own[1] for own in random_queries.own_of(user)), rel=1e-4)


def test_a_user_whose_nearest_items_are_all_excluded_has_as_many_retrieved_as_others() -> None:
    items, own = 400, 170
    vectors = np.stack([np.linspace(1, 0, items), np.ones(items)], axis=1).astype(np.float32)
    index = ItemIndex(2)
    index.upsert(np.arange(items, dtype=np.int32), vectors, np.ones(items, np.bool_))
    queries = UserSnapshots.empty(2, dims=2, layout=LAYOUT._replace(history=own, long_term_items=1))
    queries.vector[:] = [1, 0]  # the lower its number, the nearer an item
    queries.recent[0] = np.arange(own)
    candidates = propose(queries, index, CoVisitRows(max_width=1), Policy(exclude_seen=True), HALF_LIFE_S)
    for user, first in enumerate([own, 0]):
        retrieved = np.sort(candidates.item[candidates.query == user])
        assert retrieved.tolist() == list(range(first, first + Policy.retrieval_k))


def test_an_item_is_a_candidate_once_per_query_and_candidates_are_grouped_by_query() -> None:
    random_queries = RandomQueries(seed=1)
    policy = Policy(allow_session_repeats=True)
    candidates = propose(random_queries.queries, random_queries.index, random_queries.neighbours, policy, HALF_LIFE_S)
    assert (np.diff(candidates.query) >= 0).all()
    assert len(set(zip(candidates.query.tolist(), candidates.item.tolist(), strict=True))) == len(candidates.item)


def test_no_queries_have_no_candidates() -> None:
    random_queries = RandomQueries()
    no_queries = random_queries.queries.select(slice(0, 0))
    assert len(propose(no_queries, random_queries.index, random_queries.neighbours, Policy(), HALF_LIFE_S).item) == 0


def test_a_user_without_a_history_is_proposed_what_is_popular() -> None:
    """Item 7 is not available. The first user has no event, the second one about item 0."""
    items = 10
    index, table = ItemIndex(2), CoVisitRows(max_width=1)
    index.upsert(np.arange(items, dtype=np.int32), np.ones((items, 2), np.float32), np.arange(items) != 7)
    for item in range(5, 9):
        table.set(item, np.empty(0, np.int32), np.empty(0, np.float32), 0.1, first_seen=0, repeat_rate=0.2)
    queries = UserSnapshots.empty(2, dims=2, layout=LAYOUT)
    queries.recent[1, 0] = 0
    candidates = propose(queries, index, table, Policy(retrieval_k=0), HALF_LIFE_S)
    assert [sorted(candidates.item[candidates.query == user].tolist()) for user in range(2)] == [[5, 6, 8], [0]]
