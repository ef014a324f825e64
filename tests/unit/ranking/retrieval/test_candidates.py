"""Candidates, against the same union made of dictionaries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.candidates import NEVER_S, Candidates, propose
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.retrieval.item_index import ItemIndex
from anabranch.ranking.user_state.snapshot import UserSnapshots

ITEMS, USERS, HISTORY, OWN = 60, 40, 12, 8
NOW_S, HALF_LIFE_S = 10_000, 1_000
SOLD_OUT = 5
"""Every so many items are not available."""


@dataclass
class Expected:
    """What is known of one candidate."""

    co_visit_last: float = 0.0
    co_visit_recent: float = 0.0
    own: float = 0.0
    own_count: float = 0.0
    own_first_s: int = NEVER_S
    own_last_s: int = 0
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
        self.neighbours = CoVisitRows(width=3)
        for item in range(0, ITEMS, 2):
            near = random.choice(ITEMS, random.integers(0, 4), replace=False).astype(np.int32)
            self.neighbours.set(item, near, random.random(len(near)).astype(np.float32), 0.1, 0, 0.2)
        lengths = random.integers(0, HISTORY + 1, USERS)
        recent = random.integers(0, ITEMS, (USERS, HISTORY)).astype(np.int32)
        recent[np.arange(HISTORY) >= lengths[:, None]] = -1
        self.queries = queries = UserSnapshots.blank(USERS, dims=4, history=HISTORY, own_items=OWN)
        queries.vector[:] = random.normal(size=(USERS, 4))
        queries.now[:] = 1000 * NOW_S
        queries.recent[:] = recent
        queries.recent_s[:] = random.integers(0, NOW_S, (USERS, HISTORY))
        queries.session_length[:] = random.integers(0, lengths + 1)
        queries.own_size[:] = random.integers(OWN // 2, OWN + 1, USERS)
        queries.own_item[:] = np.stack([random.permutation(ITEMS)[:OWN] for _ in range(USERS)])
        queries.own_log[:] = random.normal(size=(USERS, OWN)) + NOW_S / HALF_LIFE_S
        queries.own_count[:] = random.integers(1, 9, (USERS, OWN))
        queries.own_first_s[:] = random.integers(0, NOW_S // 2, (USERS, OWN))
        queries.own_last_s[:] = random.integers(NOW_S // 2, NOW_S, (USERS, OWN))

    def own_of(self, user: int) -> Iterator[tuple[int, float, float, int, int]]:
        """Item, decayed count, count, first and last second: of every event of the history, and of what was before."""
        queries = self.queries
        for item, at in zip(queries.recent[user].tolist(), queries.recent_s[user].tolist(), strict=True):
            if item >= 0:
                yield item, 2 ** ((at - NOW_S) / HALF_LIFE_S), 1, at, at
        for place in range(int(queries.own_size[user])):
            yield (
                int(queries.own_item[user, place]),
                2 ** (float(queries.own_log[user, place]) - NOW_S / HALF_LIFE_S),
                float(queries.own_count[user, place]),
                int(queries.own_first_s[user, place]),
                int(queries.own_last_s[user, place]),
            )

    def expected(self, user: int, policy: Policy) -> dict[int, Expected]:
        queries, table = self.queries, self.neighbours.columns
        found: dict[int, Expected] = {}

        def of(item: int) -> Expected:
            return found.setdefault(item, Expected())

        session = queries.recent[user, : queries.session_length[user]].tolist()
        for back, item in enumerate(session):
            of(item).session.append(back)
        for item, decayed, count, first_s, last_s in self.own_of(user):
            one = of(item)
            one.own, one.own_count = one.own + decayed, one.own_count + count
            one.own_first_s, one.own_last_s = min(one.own_first_s, first_s), max(one.own_last_s, last_s)
        for back, recent in enumerate(queries.recent[user, : policy.recent].tolist()):
            for near, weight in zip(table.rows[recent].tolist(), table.weights[recent].tolist(), strict=True):
                if recent >= 0 and near >= 0:
                    of(near).co_visit_recent += weight * 0.5 ** (back / 2)
                    of(near).co_visit_last += weight if back == 0 else 0
        for item in self.index.search(queries.vector[user : user + 1], policy.retrieval_k)[0][0].tolist():
            of(item)
        barred = (set() if policy.allow_session_repeats else set(session)) | (
            {item for item, *_ in self.own_of(user)} if policy.exclude_seen else set()
        )
        return {item: one for item, one in found.items() if item >= 0 and item % SOLD_OUT and item not in barred}


def told(candidates: Candidates, user: int) -> dict[int, Expected]:
    """The candidates of one user; the session as far as they tell of it."""
    return {
        int(candidates.item[n]): Expected(
            pytest.approx(float(candidates.co_visit_last[n]), abs=1e-6),
            pytest.approx(float(candidates.co_visit_recent[n]), abs=1e-6),
            pytest.approx(float(candidates.own[n]), rel=1e-4),
            float(candidates.own_count[n]),
            int(candidates.own_first_s[n]),
            int(candidates.own_last_s[n]),
            [int(candidates.session_at[n])] * int(candidates.session_count[n]),
        )
        for n in np.flatnonzero(candidates.query == user).tolist()
    }


@pytest.mark.parametrize("exclude_seen", [False, True])
@pytest.mark.parametrize("allow_session_repeats", [False, True])
def test_candidates_are_the_union_of_the_sources_less_what_may_not_be_shown(
    allow_session_repeats: bool, exclude_seen: bool
) -> None:
    market = Market()
    policy = Policy(retrieval_k=10, recent=4, exclude_seen=exclude_seen, allow_session_repeats=allow_session_repeats)
    candidates = propose(market.queries, market.index, market.neighbours, policy, HALF_LIFE_S)
    for user in range(USERS):
        expected = market.expected(user, policy)
        for one in expected.values():
            one.session = [min(one.session)] * len(one.session) if one.session else []
        assert told(candidates, user) == expected
        assert candidates.all_own[user] == pytest.approx(sum(own[1] for own in market.own_of(user)), rel=1e-4)


def test_an_item_stands_once_per_query_and_a_querys_items_together() -> None:
    market = Market(seed=1)
    policy = Policy(allow_session_repeats=True)
    candidates = propose(market.queries, market.index, market.neighbours, policy, HALF_LIFE_S)
    assert (np.diff(candidates.query) >= 0).all()
    assert len(set(zip(candidates.query.tolist(), candidates.item.tolist(), strict=True))) == len(candidates.item)


def test_nobody_has_no_candidates() -> None:
    market = Market()
    nobody = market.queries.part(0, 0)
    assert len(propose(nobody, market.index, market.neighbours, Policy(), HALF_LIFE_S).item) == 0
