"""What exploring new items promises: a stated share of the explored places, the same propensities, the same limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anabranch.messages import EXPLORED_POOL, Event, Item
from anabranch.placements import DISCOVER, FOR_YOU, AtMost, Placement
from anabranch.ranking.event_batch import EventBatch
from anabranch.ranking.pipeline.exploration import candidates_needed
from anabranch.ranking.pipeline.rank import RankingResult, rank
from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.retrieval.item_attributes import ItemAttributes
from anabranch.ranking.user_state.store import UserStates
from anabranch.ranking.vocabulary import ItemVocabulary
from tests.support.layouts import LAYOUT
from tests.support.releases import DIMS, live_release, write_release

ITEMS, NEW, USERS = 150, 30, 400
SLATE, PLACES, NEW_IN_POOL = 8, 2, 5
EXPLOITED = SLATE - PLACES
EXPLORING = Policy(retrieval_k=70, explore_places=PLACES)
EXPLORING_NEW = replace(EXPLORING, explore_new_items=NEW_IN_POOL)


class Shop:
    """A ranker's core for users who all viewed one item. New are the items that are farthest from them, or nearest."""

    def __init__(self, folder: Path, new_are_near: bool = False) -> None:
        catalogue = [f"item {n}" for n in range(ITEMS)]
        write_release(folder, "r1", catalogue)
        self.item_ids = ItemVocabulary()
        self.live = live_release(folder, self.item_ids, catalogue)
        self.co_visits = CoVisitRows(max_width=1)
        nearest = self._nearest_to_users()
        self.new = nearest[:NEW] if new_are_near else nearest[-NEW:]
        """The nearest first."""
        self.publish_events([item for item in nearest if item not in self.new])

    def rank(self, policy: Policy, slate: int = SLATE) -> RankingResult:
        layout = LAYOUT._replace(slate=slate, placements=policy.placement_names)
        states = UserStates(layout, DIMS, DIMS)
        events = [Event(event_id="e", user_id=f"u{n}", type="view", ts=n, item_id="item 3") for n in range(USERS)]
        return rank(self.live, self.co_visits, states, self._batch(states, *events), policy)

    def publish_events(self, items: list[int]) -> None:
        """From now on these items are not new."""
        for item in items:
            empty = np.empty(0, np.int32), np.empty(0, np.float32)
            self.co_visits.set(item, *empty, popularity=0.01, first_seen=0, repeat_rate=0.2)

    def put_new_items_in_categories(self, *paths: str) -> None:
        """In turn; every other item is in a category of its own."""
        categories = [[f"only {n}"] for n in range(ITEMS)]
        for n, item in enumerate(self.new):
            categories[item] = [paths[n % len(paths)]]
        self.describe([""] * ITEMS, categories)

    def describe(self, brands: Sequence[str], categories: Sequence[Sequence[str]]) -> None:
        """Brand and category path of each item."""
        rows, columns = np.arange(ITEMS, dtype=np.int32), self.live.index.columns
        described = [
            Item(item_id=f"item {n}", title="", brand=brands[n], category=list(categories[n])) for n in range(ITEMS)
        ]
        of_items = ItemAttributes.of(described)
        self.live.index.upsert(rows, columns.vectors[rows], columns.servable[rows], columns.hashes[rows], of_items)

    def _nearest_to_users(self) -> list[int]:
        states = UserStates(LAYOUT, DIMS, DIMS)
        event = Event(event_id="e", user_id="u0", type="view", ts=0, item_id="item 3")
        rank(self.live, self.co_visits, states, self._batch(states, event), Policy())
        nearest: list[int] = self.live.index.search(states.columns.vector[states.slots(["u0"])], ITEMS)[0][0].tolist()
        return nearest

    def _batch(self, states: UserStates, *events: Event) -> EventBatch:
        return EventBatch.from_events(events, states.slots(e.user_id for e in events), self.item_ids)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "r1")


def pool_of(ranked: RankingResult) -> list[int]:
    return sorted(set(ranked.slate[:, EXPLOITED:].ravel().tolist()))


def test_new_items_have_their_share_of_the_pool_and_the_best_others_the_rest(shop: Shop) -> None:
    best = shop.rank(Policy(retrieval_k=70), slate=candidates_needed(SLATE, PLACES)).slate[0].tolist()
    ranked, new = shop.rank(EXPLORING_NEW), PLACES * NEW_IN_POOL
    assert pool_of(ranked) == sorted(best[EXPLOITED:-new] + shop.new[:new]), "after 400 draws each was drawn"
    assert np.array_equal(ranked.slate[:, :EXPLOITED], [best[:EXPLOITED]] * USERS)


def test_each_item_of_the_pool_is_still_drawn_with_the_probability_that_is_logged(shop: Shop) -> None:
    ranked = shop.rank(EXPLORING_NEW)
    counts = np.unique(ranked.slate[:, EXPLOITED:], return_counts=True)[1]
    expected = USERS / EXPLORED_POOL
    assert (ranked.explored == PLACES).all()
    assert np.abs(counts - expected).max() < 4.5 * np.sqrt(expected)


def test_explored_places_that_have_a_new_item_are_counted(shop: Shop) -> None:
    ranked = shop.rank(EXPLORING_NEW)
    is_new = np.isin(ranked.slate[:, EXPLOITED:], shop.new)
    assert ranked.explored_new.tolist() == is_new.sum(axis=1).tolist()
    assert 0 < is_new.sum() < is_new.size
    assert not shop.rank(EXPLORING).explored_new.any()


def test_a_new_item_that_is_in_the_pool_already_is_in_it_once(shop: Shop) -> None:
    ranked = shop.rank(replace(EXPLORING_NEW, retrieval_k=ITEMS, explore_new_items=EXPLORED_POOL))
    assert len(pool_of(ranked)) == PLACES * EXPLORED_POOL
    assert all(len(set(slate)) == SLATE for slate in ranked.slate.tolist())


def test_where_new_items_are_fewer_the_next_best_others_stay(shop: Shop) -> None:
    best = shop.rank(Policy(retrieval_k=70), slate=candidates_needed(SLATE, PLACES)).slate[0].tolist()
    shop.publish_events(shop.new[3:])
    assert pool_of(shop.rank(EXPLORING_NEW)) == sorted(best[EXPLOITED:-3] + shop.new[:3])


def test_limits_of_the_placement_hold_for_new_items_too(shop: Shop) -> None:
    shop.put_new_items_in_categories("hats", "coats")
    limited = Placement(name="for_you", at_most=AtMost(category=1))
    pool = pool_of(shop.rank(replace(EXPLORING_NEW, placements=(limited,))))
    assert len(pool) == PLACES * EXPLORED_POOL
    assert sorted(shop.new.index(item) % 2 for item in pool if item in shop.new) == [0, 1]


def test_new_items_take_no_exploited_place_and_none_of_another_placement(tmp_path: Path) -> None:
    """They are the nearest to the users here. All others come from co-visits."""
    shop = Shop(tmp_path / "r1", new_are_near=True)
    others = np.array([item for item in range(ITEMS) if item not in shop.new][:60], np.int32)
    shop.co_visits = CoVisitRows(max_width=60)
    shop.publish_events([item for item in range(ITEMS) if item not in shop.new])
    shop.co_visits.set(3, others, np.ones(60, np.float32), popularity=0.01, first_seen=0, repeat_rate=0.2)
    policy = replace(EXPLORING_NEW, retrieval_k=0, placements=(FOR_YOU, DISCOVER))
    ranked = shop.rank(policy)
    assert (ranked.explored == PLACES).all()
    assert ranked.explored_new.any()
    assert not np.isin(ranked.slate[:, :EXPLOITED], shop.new).any()
    assert np.array_equal(ranked.slates[:, 1], shop.rank(replace(policy, explore_new_items=0)).slates[:, 1])


def test_a_user_with_too_few_other_candidates_is_shown_no_new_item(shop: Shop) -> None:
    ranked = shop.rank(replace(EXPLORING_NEW, retrieval_k=20))
    assert not np.isin(ranked.slate, shop.new).any()
    assert not ranked.explored_new.any()


def test_a_new_item_that_displaces_others_by_the_limits_leaves_the_pool_full(shop: Shop) -> None:
    """Each new item is of the brand of one of the others, and of the category of another one."""
    best = shop.rank(Policy(retrieval_k=70), slate=candidates_needed(SLATE, PLACES)).slate[0].tolist()
    brands, categories = [f"brand {n}" for n in range(ITEMS)], [[f"only {n}"] for n in range(ITEMS)]
    for item, of_brand, of_category in zip(shop.new[:5], best[-10:-5], best[-5:], strict=True):
        brands[item], categories[item] = brands[of_brand], categories[of_category]
    shop.describe(brands, categories)
    limited = Placement(name="for_you", at_most=AtMost(brand=1, category=1))
    ranked = shop.rank(replace(EXPLORING_NEW, placements=(limited,)))
    assert (ranked.explored == PLACES).all()
    assert len(pool_of(ranked)) == PLACES * EXPLORED_POOL


def test_the_exploited_places_of_a_calibrated_slate_are_calibrated(shop: Shop) -> None:
    """The users viewed one item, of hats, and half of the others are hats: they are all that is exploited."""
    shop.describe([""] * ITEMS, [["hats" if n % 2 else "coats"] for n in range(ITEMS)])
    calibrated = Placement(name="for_you", calibration=0.99)
    ranked = shop.rank(replace(EXPLORING, placements=(calibrated,)))
    assert (ranked.explored == PLACES).all()
    assert (ranked.slate[:, :EXPLOITED] % 2 == 1).all()
