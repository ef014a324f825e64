"""What explored places promise: known probabilities, the same draw for the same event, and nothing that is barred."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from anabranch.messages import EXPLORED_POOL, Event
from anabranch.ranking.event_batch import EventBatch
from anabranch.ranking.pipeline.exploration import candidates_needed, draw_keys, explore
from anabranch.ranking.pipeline.feedback import NO_PROPENSITY
from anabranch.ranking.pipeline.rank import RankingResult, rank
from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.user_state.store import UserStates
from anabranch.ranking.vocabulary import ItemVocabulary
from tests.support.layouts import LAYOUT
from tests.support.releases import DIMS, live_release, write_release

CATALOGUE = [f"item {n}" for n in range(150)]
SLATE, PLACES = 8, 2
EXPLOITED = SLATE - PLACES
EXPLORING = Policy(explore_places=PLACES)


class Explorer:
    """A ranker's core whose slates have explored places."""

    def __init__(self, folder: Path, policy: Policy = EXPLORING) -> None:
        write_release(folder, "r1", CATALOGUE, purchase=True)
        self.item_ids = ItemVocabulary()
        self.live = live_release(folder, self.item_ids, CATALOGUE)
        self.policy = policy
        self.forget()

    def forget(self, slate: int = SLATE) -> None:
        self.states = UserStates(LAYOUT._replace(slate=slate), DIMS, DIMS)

    def rank(self, events: Sequence[Event], policy: Policy | None = None) -> RankingResult:
        batch = EventBatch.from_events(events, self.states.slots(e.user_id for e in events), self.item_ids)
        return rank(self.live, CoVisitRows(), self.states, batch, policy or self.policy)


@pytest.fixture
def explorer(tmp_path: Path) -> Explorer:
    return Explorer(tmp_path / "r1")


def view(n: int, item: str, user: str = "ann") -> Event:
    return Event(event_id=f"e{n}", user_id=user, type="view", ts=1_000 * n, item_id=item)


def views(count: int, users: int = 5) -> list[Event]:
    return [view(n, CATALOGUE[n * 7 % len(CATALOGUE)], f"u{n % users}") for n in range(count)]


def test_each_item_of_the_pool_is_drawn_with_the_probability_that_is_logged() -> None:
    draws = 50_000
    keys = np.random.default_rng(0).integers(2**63, size=draws).astype(np.uint64)
    drawn = explore(keys, np.full(draws, 500), SLATE, PLACES)
    assert (drawn.explored == PLACES).all()
    assert (drawn.candidate[:, :EXPLOITED] == np.arange(EXPLOITED)).all()
    assert (drawn.candidate[:, -2] != drawn.candidate[:, -1]).all(), "without replacement"
    for place in (-2, -1):  # each place for itself, so that none of them prefers the better items
        counts = np.bincount(drawn.candidate[:, place] - EXPLOITED, minlength=PLACES * EXPLORED_POOL)
        expected = draws / (PLACES * EXPLORED_POOL)
        assert len(counts) == PLACES * EXPLORED_POOL
        assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


@pytest.mark.parametrize(
    ("candidates", "explored"), [(0, 0), (5, 0), (8, 0), (31, 0), (32, 1), (55, 1), (56, 2), (90, 2), (999, 2)]
)
def test_with_too_few_candidates_for_a_full_pool_fewer_places_are_explored(candidates: int, explored: int) -> None:
    keys = np.arange(1_000, dtype=np.uint64)
    drawn = explore(keys, np.full(1_000, candidates), SLATE, PLACES)
    assert set(drawn.explored.tolist()) == {explored}
    assert (drawn.candidate[:, : SLATE - explored] == np.arange(SLATE - explored)).all()
    of_pool = drawn.candidate[:, SLATE - explored :]
    assert set(of_pool.ravel().tolist()) == set(range(SLATE - explored, SLATE - explored + explored * EXPLORED_POOL))
    assert of_pool.max(initial=0) < max(candidates, 1)
    assert candidates_needed(SLATE, explored) == SLATE - explored + explored * EXPLORED_POOL


def test_users_whose_events_have_the_same_ids_draw_independently() -> None:
    events = [view(n, "item 1", f"u{n}") for n in range(200)]
    same_id = [Event(event_id="1", user_id=e.user_id, type="view", ts=e.ts, item_id="item 1") for e in events]
    item_ids, states = ItemVocabulary(), UserStates(LAYOUT, DIMS, DIMS)
    batch = EventBatch.from_events(same_id, states.slots(e.user_id for e in same_id), item_ids)
    keys = draw_keys(batch.columns, np.arange(200))
    assert len(set(explore(keys, np.full(200, 500), SLATE, PLACES).candidate[:, -1].tolist())) > 40


def test_an_event_has_the_same_slate_however_it_is_batched_and_whenever_it_is_ranked_again(explorer: Explorer) -> None:
    events = views(120)
    whole = explorer.rank(events)
    explorer.forget()
    single = [explorer.rank([event]) for event in events]
    assert np.array_equal(whole.slate, np.concatenate([one.slate for one in single]))
    assert np.array_equal(whole.explored, np.concatenate([one.explored for one in single]))
    assert np.array_equal(whole.feedback.propensity, np.concatenate([one.feedback.propensity for one in single]))


def test_the_places_before_the_explored_ones_have_the_best_items(explorer: Explorer) -> None:
    events = views(120)
    explored = explorer.rank(events)
    explorer.forget(slate=candidates_needed(SLATE, PLACES))
    best = explorer.rank(events, Policy())
    is_full = explored.explored == PLACES
    assert is_full.mean() > 0.9
    assert np.array_equal(explored.slate[is_full, :EXPLOITED], best.slate[is_full, :EXPLOITED])
    assert not np.array_equal(explored.slate[is_full, EXPLOITED:], best.slate[is_full, EXPLOITED:SLATE])
    for slate, candidates in zip(explored.slate[is_full], best.slate[is_full], strict=True):
        assert set(slate.tolist()) <= set(candidates.tolist())


def test_an_explored_item_passes_the_filters_of_the_policy(tmp_path: Path) -> None:
    explorer = Explorer(tmp_path / "r1", Policy(explore_places=PLACES, exclude_seen=True))
    seen: dict[str, set[int]] = {}
    events = views(200)
    ranked = explorer.rank(events)
    assert ranked.explored.any()
    for event, slate in zip(events, ranked.slate.tolist(), strict=True):
        of_user = seen.setdefault(event.user_id, set())
        of_user.add(explorer.item_ids.row(event.item_id or ""))
        assert not of_user & set(slate)


def test_an_explored_item_has_its_own_score_and_purchase_probability(explorer: Explorer) -> None:
    events = views(60)
    explored = explorer.rank(events, Policy(explore_places=PLACES, purchase=True))
    explorer.forget(slate=candidates_needed(SLATE, PLACES))
    wide = explorer.rank(events, Policy(purchase=True))
    assert explored.purchase is not None
    assert wide.purchase is not None
    for row in range(len(events)):
        for place, item in enumerate(explored.slate[row].tolist()):
            among = wide.slate[row].tolist().index(item)
            assert explored.score[row, place] == pytest.approx(wide.score[row, among], abs=1e-5)
            assert explored.purchase[row, place] == pytest.approx(wide.purchase[row, among], abs=1e-5)


def test_feedback_has_the_probability_with_which_the_item_was_shown(explorer: Explorer) -> None:
    for place, propensity in ((0, 1.0), (EXPLOITED - 1, 1.0), (EXPLOITED, 0.04), (SLATE - 1, 0.04)):
        explorer.forget()
        slate = explorer.rank([view(1, "item 3")]).slate[0]
        answer = explorer.rank([view(2, explorer.item_ids.id(slate[place]))]).feedback
        assert (answer.rank.tolist(), answer.propensity.tolist()) == ([place + 1], [propensity])
        elsewhere = next(item for item in CATALOGUE if explorer.item_ids.row(item) not in slate)
        explorer.forget()
        explorer.rank([view(1, "item 3")])
        assert explorer.rank([view(2, elsewhere)]).feedback.propensity.tolist() == [NO_PROPENSITY]


def test_without_exploration_there_is_no_propensity(explorer: Explorer) -> None:
    slate = explorer.rank([view(1, "item 3")], Policy()).slate[0]
    ranked = explorer.rank([view(2, explorer.item_ids.id(slate[0]))], Policy())
    assert ranked.feedback.rank.tolist() == [1]
    assert ranked.feedback.propensity.tolist() == [NO_PROPENSITY]
    assert not ranked.explored.any()
