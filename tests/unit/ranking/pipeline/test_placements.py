"""What each placement shows, and what feedback says of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from anabranch.messages import Event, Item
from anabranch.placements import AGAIN, DISCOVER, FOR_YOU, AtMost, Placement
from anabranch.ranking.event_batch import EventBatch
from anabranch.ranking.pipeline.feedback import NO_SLATE, NOT_ON_SLATE
from anabranch.ranking.pipeline.rank import RankingResult, rank
from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.retrieval.item_attributes import ItemAttributes
from anabranch.ranking.user_state.store import UserStates
from anabranch.ranking.vocabulary import ItemVocabulary
from tests.support.layouts import LAYOUT
from tests.support.releases import DIMS, live_release, write_release

CATALOGUE = [f"item {n}" for n in range(60)]
OTHERS = Placement(name="others", without=("for_you",))
SLATE, IMPRESSION_ITEMS = 5, 6


class Shop:
    """A ranker's core with placements."""

    def __init__(self, folder: Path, *placements: Placement, **policy: bool | int) -> None:
        if not folder.exists():
            write_release(folder, "r1", CATALOGUE)
        self.item_ids = ItemVocabulary()
        self.live = live_release(folder, self.item_ids, CATALOGUE)
        self.policy = Policy(placements=placements, **policy)  # type: ignore[arg-type]
        layout = LAYOUT._replace(slate=SLATE, placements=self.policy.placement_names, impression_items=IMPRESSION_ITEMS)
        self.states = UserStates(layout, DIMS, DIMS)

    def rank(self, *events: Event) -> RankingResult:
        batch = EventBatch.from_events(events, self.states.slots(e.user_id for e in events), self.item_ids)
        return rank(self.live, CoVisitRows(), self.states, batch, self.policy)

    def slates(self, ranked: RankingResult, event: int = -1) -> dict[str, list[str]]:
        return {
            name: [self.item_ids.id(row) for row in slate if row >= 0]
            for name, slate in zip(self.policy.placement_names, ranked.slates[event].tolist(), strict=True)
        }

    def describe(self, *brands_and_categories: tuple[str, str]) -> None:
        """The first items have these brands and categories."""
        items = [
            Item(item_id=CATALOGUE[n], title="", brand=brand, category=[category] if category else [])
            for n, (brand, category) in enumerate(brands_and_categories)
        ]
        rows = self.item_ids.rows(item.item_id for item in items)
        vectors, index = self.live.index.vectors(rows).copy(), self.live.index
        index.upsert(rows, vectors, np.ones(len(rows), np.bool_), self.item_ids.hashes(rows), ItemAttributes.of(items))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "r1"


def view(n: int, item: int | str, session: str = "s0") -> Event:
    item_id = f"item {item}" if isinstance(item, int) else item
    return Event(event_id=f"e{n}", user_id="ann", type="view", ts=1_000 * n, item_id=item_id, session_id=session)


def past(items: Sequence[int]) -> list[Event]:
    """A view of each item in an earlier session, then one of item 59 in another."""
    return [*(view(n, item) for n, item in enumerate(items)), view(len(items), 59, "now")]


def test_each_placement_shows_what_it_is_for(folder: Path) -> None:
    shop = Shop(folder, FOR_YOU, AGAIN, DISCOVER)
    slates = shop.slates(shop.rank(*past([3, 4, 5])))
    assert set(slates["again"]) == {"item 3", "item 4", "item 5"}
    assert len(slates["discover"]) == SLATE
    assert not set(slates["discover"]) & {"item 3", "item 4", "item 5", "item 59"}


def test_what_a_further_placement_shows_changes_no_slate_of_the_first(folder: Path) -> None:
    events = past(range(10))
    alone, among = Shop(folder, FOR_YOU), Shop(folder, FOR_YOU, AGAIN, OTHERS)
    one, other = alone.rank(*events), among.rank(*events)
    assert np.array_equal(one.slate, other.slate)
    assert np.array_equal(one.score, other.score)


@pytest.mark.parametrize("exclude_seen", [False, True])
def test_the_first_placement_has_the_same_scores_though_another_shows_what_it_excludes(
    folder: Path, exclude_seen: bool
) -> None:
    events = past(range(10))
    alone = Shop(folder, FOR_YOU, exclude_seen=exclude_seen)
    among = Shop(folder, FOR_YOU, AGAIN, exclude_seen=exclude_seen)
    one, other = alone.rank(*events), among.rank(*events)
    assert np.array_equal(one.slate, other.slate)
    assert np.array_equal(one.score, other.score)


def test_a_user_with_many_own_items_still_has_a_full_slate_of_new_ones(folder: Path) -> None:
    """The index finds the own items first; they must not use up what is retrieved."""
    shop = Shop(folder, FOR_YOU, DISCOVER, retrieval_k=SLATE)
    slates = shop.slates(shop.rank(*past(range(50))))
    assert len(slates["discover"]) == SLATE
    assert not set(slates["discover"]) & {f"item {n}" for n in range(50)}


def test_items_of_the_current_session_come_again_only_if_the_policy_allows_it(folder: Path) -> None:
    barred, allowed = Shop(folder, AGAIN), Shop(folder, AGAIN, allow_session_repeats=True)
    assert shop_again(barred) == {"item 3"}
    assert shop_again(allowed) == {"item 3", "item 59"}


def shop_again(shop: Shop) -> set[str]:
    return set(shop.slates(shop.rank(*past([3])))["again"])


def test_what_stands_on_an_earlier_placement_is_left_out_and_the_next_best_follow(folder: Path) -> None:
    shop = Shop(folder, FOR_YOU, OTHERS)
    longer = Shop(folder, FOR_YOU)
    longer.states = UserStates(LAYOUT._replace(slate=2 * SLATE), DIMS, DIMS)
    events = past([3, 4])
    slates, both = shop.slates(shop.rank(*events)), longer.slates(longer.rank(*events))["for_you"]
    assert slates["for_you"] + slates["others"] == both


def test_what_was_explored_at_the_first_placement_is_left_out_too(folder: Path) -> None:
    slates = (shop := Shop(folder, FOR_YOU, OTHERS, explore_places=1)).slates(shop.rank(*past([3])))
    assert not set(slates["for_you"]) & set(slates["others"])
    assert len(slates["others"]) == SLATE


def test_feedback_has_the_rank_on_every_placement(folder: Path) -> None:
    shop = Shop(folder, FOR_YOU, AGAIN, DISCOVER)
    slates = shop.slates(first := shop.rank(*past([3])))
    new = slates["discover"][2]
    again, discovered = shop.rank(view(10, 3, "later")), shop.rank(view(11, new, "later"))
    assert first.feedback.ranks[0].tolist() == [NO_SLATE] * 3
    assert again.feedback.ranks[0].tolist() == [slates["for_you"].index("item 3") + 1, 1, NOT_ON_SLATE]
    assert discovered.feedback.ranks[0, 1] == NOT_ON_SLATE
    assert discovered.feedback.ranks[0, 2] >= 1
    assert first.feedback.rank.tolist() == first.feedback.ranks[:, 0].tolist()


def test_a_batch_has_the_slates_and_ranks_of_its_events_one_by_one(folder: Path) -> None:
    events = past([*range(8), 3, 4, 3])
    whole = Shop(folder, FOR_YOU, AGAIN, OTHERS).rank(*events)
    shop = Shop(folder, FOR_YOU, AGAIN, OTHERS)
    single = [shop.rank(event) for event in events]
    assert np.array_equal(whole.slates, np.concatenate([one.slates for one in single]))
    assert np.array_equal(whole.feedback.ranks, np.concatenate([one.feedback.ranks for one in single]))


def test_a_ranker_for_other_placements_than_the_states_keep_is_an_error(folder: Path) -> None:
    shop = Shop(folder, FOR_YOU, AGAIN)
    shop.policy = Policy()
    with pytest.raises(ValueError, match="for_you"):
        shop.rank(view(1, 1))


@pytest.mark.parametrize("kind", ["brand", "category"])
def test_a_slate_shows_at_most_so_many_items_of_one_kind_and_the_next_best_in_their_place(
    folder: Path, kind: str
) -> None:
    varied = Placement(name="varied", at_most=AtMost(**{kind: 2}))
    shop, all_of_them = Shop(folder, varied), Shop(folder, FOR_YOU)
    named = ["Hof" if n % 3 else "" for n in range(60)]
    pairs = [(name, "") if kind == "brand" else ("", name) for name in named]
    shop.describe(*pairs)
    events = past(range(10))
    order = shop.slates(shop.rank(*events))["varied"]
    best = all_of_them.slates(all_of_them.rank(*events))["for_you"]
    hof = [item for item in order if named[CATALOGUE.index(item)]]
    assert len(order) == SLATE
    assert len(hof) == 2, "those without a name are not limited"
    assert hof == [item for item in best if named[CATALOGUE.index(item)]][:2]


def test_limits_of_a_placement_are_not_those_of_the_others(folder: Path) -> None:
    shop = Shop(folder, FOR_YOU, Placement(name="varied", at_most=AtMost(brand=1)))
    shop.describe(*[("Hof", "")] * 60)
    slates = shop.slates(shop.rank(*past([3, 4, 5])))
    assert len(slates["for_you"]) == SLATE
    assert slates["varied"] == slates["for_you"][:1]


def test_a_calibrated_placement_has_the_categories_of_the_history_and_the_others_are_as_without_it(
    folder: Path,
) -> None:
    calibrated = Placement(name="calibrated", calibration=0.9)
    shop, plain = Shop(folder, FOR_YOU, calibrated), Shop(folder, FOR_YOU)
    shop.describe(*(("", "bread" if n % 2 else "milk") for n in range(60)))
    events = past([1, 3, 5, 7, 9, 11, 0, 2])  # six of bread and two of milk, and then one more of bread
    slates = shop.slates(shop.rank(*events))
    bread = [item for item in slates["calibrated"] if CATALOGUE.index(item) % 2]
    assert len(bread) == round(len(slates["calibrated"]) * 7 / 9)
    assert slates["for_you"] == plain.slates(plain.rank(*events))["for_you"]
