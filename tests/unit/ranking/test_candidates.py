"""Candidates, against the same union made of dictionaries."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from anabranch.ranking.candidates import Candidates, Policy, Queries, propose
from anabranch.ranking.index import ItemIndex
from anabranch.ranking.neighbours import NeighbourTable

ITEMS, USERS, HISTORY, OWN = 60, 40, 12, 8
SOLD_OUT = 5
"""Every so many items are not available."""


@dataclass
class Expected:
    """What is known of one candidate."""

    co_visit_last: float = 0.0
    co_visit_recent: float = 0.0
    own_at: int = -1
    session: list[int] = field(default_factory=list)


class Market:
    """Random users, of whom some are new, in a catalogue in which a few items have neighbours."""

    def __init__(self, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.index = ItemIndex(4)
        available = np.arange(ITEMS) % SOLD_OUT > 0
        self.index.upsert(
            np.arange(ITEMS, dtype=np.int32), random.normal(size=(ITEMS, 4)).astype(np.float32), available
        )
        self.neighbours = NeighbourTable(width=3)
        for item in range(0, ITEMS, 2):
            near = random.choice(ITEMS, random.integers(0, 4), replace=False).astype(np.int32)
            self.neighbours.set(item, near, random.random(len(near)).astype(np.float32), 0.1, 0, 0.2)
        lengths = random.integers(0, HISTORY + 1, USERS)
        recent = random.integers(0, ITEMS, (USERS, HISTORY)).astype(np.int32)
        recent[np.arange(HISTORY) >= lengths[:, None]] = -1
        own = np.stack([random.permutation(ITEMS)[:OWN] for _ in range(USERS)]).astype(np.int32)
        own[:, OWN // 2 :][random.random((USERS, OWN - OWN // 2)) < 0.5] = -1
        self.queries = Queries(
            vector=random.normal(size=(USERS, 4)).astype(np.float32),
            now=np.zeros(USERS, np.int64),
            recent=recent,
            session_length=random.integers(0, lengths + 1).astype(np.int32),
            own_item=own,
            own_log=np.zeros((USERS, OWN), np.float32),
            own_count=np.zeros((USERS, OWN), np.float32),
            own_first_s=np.zeros((USERS, OWN), np.int64),
            own_last_s=np.zeros((USERS, OWN), np.int64),
        )

    def expected(self, user: int, policy: Policy) -> dict[int, Expected]:
        queries, table = self.queries, self.neighbours.columns
        found: dict[int, Expected] = {}

        def of(item: int) -> Expected:
            return found.setdefault(item, Expected())

        session = queries.recent[user, : queries.session_length[user]].tolist()
        for back, item in enumerate(session):
            of(item).session.append(back)
        for place, item in enumerate(queries.own_item[user].tolist()):
            of(item).own_at = place
        for back, recent in enumerate(queries.recent[user, : policy.recent].tolist()):
            for near, weight in zip(table.rows[recent].tolist(), table.weights[recent].tolist(), strict=True):
                if recent >= 0 and near >= 0:
                    of(near).co_visit_recent += weight * 0.5 ** (back / 2)
                    of(near).co_visit_last += weight if back == 0 else 0
        for item in self.index.search(queries.vector[user : user + 1], policy.retrieve)[0][0].tolist():
            of(item)
        barred = (set() if policy.session_repeats else set(session)) | (
            set(queries.own_item[user].tolist()) if policy.discover else set()
        )
        return {item: one for item, one in found.items() if item >= 0 and item % SOLD_OUT and item not in barred}


def told(candidates: Candidates, user: int) -> dict[int, Expected]:
    """The candidates of one user; the session as far as they tell of it."""
    return {
        int(candidates.item[n]): Expected(
            pytest.approx(float(candidates.co_visit_last[n]), abs=1e-6),
            pytest.approx(float(candidates.co_visit_recent[n]), abs=1e-6),
            int(candidates.own_at[n]),
            [int(candidates.session_at[n])] * int(candidates.session_count[n]),
        )
        for n in np.flatnonzero(candidates.query == user).tolist()
    }


@pytest.mark.parametrize("discover", [False, True])
@pytest.mark.parametrize("session_repeats", [False, True])
def test_candidates_are_the_union_of_the_sources_less_what_may_not_be_shown(
    session_repeats: bool, discover: bool
) -> None:
    market = Market()
    policy = Policy(retrieve=10, recent=4, discover=discover, session_repeats=session_repeats)
    candidates = propose(market.queries, market.index, market.neighbours, policy)
    for user in range(USERS):
        expected = market.expected(user, policy)
        for one in expected.values():
            one.session = [min(one.session)] * len(one.session) if one.session else []
        assert told(candidates, user) == expected


def test_an_item_stands_once_per_query_and_a_querys_items_together() -> None:
    market = Market(seed=1)
    candidates = propose(market.queries, market.index, market.neighbours, Policy(session_repeats=True))
    assert (np.diff(candidates.query) >= 0).all()
    assert len(set(zip(candidates.query.tolist(), candidates.item.tolist(), strict=True))) == len(candidates.item)


def test_nobody_has_no_candidates() -> None:
    market = Market()
    nobody = market.queries.part(0, 0)
    assert len(propose(nobody, market.index, market.neighbours, Policy()).item) == 0
