"""What rules make of slates, in the ranker's core."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from anabranch.messages import Event, Rule
from anabranch.placements import DISCOVER, FOR_YOU, Placement
from anabranch.ranking.event_batch import EventBatch
from anabranch.ranking.pipeline.rank import RankingResult, rank
from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.rules.item_effects import rules_in_force
from anabranch.ranking.rules.rule_book import numbered
from anabranch.ranking.user_state.store import UserStates
from anabranch.ranking.vocabulary import ItemVocabulary
from tests.support.layouts import LAYOUT
from tests.support.releases import DIMS, live_release, write_release

CATALOGUE = [f"item {n}" for n in range(60)]
SLATE = 5
OTHERS = Placement(name="others", without=("for_you",))


class Shop:
    """A ranker's core whose states are fresh for every ranking, so that rankings differ by rules alone."""

    def __init__(self, folder: Path, *placements: Placement, **policy: int) -> None:
        write_release(folder, "r1", CATALOGUE)
        self.item_ids = ItemVocabulary()
        self.live = live_release(folder, self.item_ids, CATALOGUE)
        self.policy = Policy(placements=placements or (FOR_YOU,), **policy)  # type: ignore[arg-type]

    def rank(self, *rules: dict[str, object]) -> RankingResult:
        """After three views."""
        numbered_rules = [
            numbered(msgspec.convert({"rule_id": f"r{n}", **rule}, Rule), self.item_ids) for n, rule in enumerate(rules)
        ]
        names = self.policy.placement_names
        in_force = rules_in_force(numbered_rules, self.live.index, names, SLATE - self.policy.explore_places - 1)
        states = UserStates(LAYOUT._replace(slate=SLATE, placements=names), DIMS, DIMS)
        events = [
            Event(event_id=f"{n}", user_id="ann", type="view", ts=1_000 * n, item_id=f"item {n}", session_id="s")
            for n in range(3)
        ]
        batch = EventBatch.from_events(events, states.slots(e.user_id for e in events), self.item_ids)
        return rank(self.live, CoVisitRows(), states, batch, replace(self.policy, rules=in_force))

    def slates(self, *rules: dict[str, object]) -> list[list[str]]:
        """The slate of each placement, after the last event."""
        slates = self.rank(*rules).slates[-1].tolist()
        return [[self.item_ids.id(row) for row in slate if row >= 0] for slate in slates]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "r1")


def pin(position: int, *items: str, **fields: object) -> dict[str, object]:
    return {"action": "pin", "items": list(items), "position": position, **fields}


def test_a_hidden_item_is_not_shown_and_the_others_move_up(shop: Shop) -> None:
    [plain] = shop.slates()
    [slate] = shop.slates({"action": "hide", "items": plain[1:2]})
    assert slate[:4] == [plain[0], *plain[2:]]
    assert len(slate) == SLATE


def test_a_buried_item_stands_after_all_others(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "r1", retrieval_k=SLATE)
    [plain] = shop.slates()
    [slate] = shop.slates({"action": "bury", "items": plain[:1]})
    assert slate == [*plain[1:], plain[0]]


def test_a_boost_multiplies_the_odds_of_an_item(shop: Shop) -> None:
    plain, [slate] = shop.rank(), shop.slates()
    gap = float(plain.score[-1, 0] - plain.score[-1, 2])
    enough, too_little = float(np.exp(gap)) * 1.01, float(np.exp(gap)) * 0.99
    assert shop.slates({"action": "boost", "items": slate[2:3], "factor": enough})[0][0] == slate[2]
    assert shop.slates({"action": "boost", "items": slate[2:3], "factor": too_little})[0][0] == slate[0]


def test_a_pinned_item_stands_at_its_position_and_the_others_around_it_in_order(shop: Shop) -> None:
    [plain] = shop.slates()
    assert shop.slates(pin(2, plain[4])) == [[plain[0], plain[4], *plain[1:4]]]
    assert shop.slates(pin(4, plain[0])) == [[*plain[1:4], plain[0], plain[4]]]


def test_an_item_that_no_source_proposes_is_shown_where_it_is_pinned(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "r1", retrieval_k=SLATE)
    [plain] = shop.slates()
    far = next(item for item in CATALOGUE[3:] if item not in plain)  # the first three were viewed in this session
    [slate] = shop.slates(pin(1, far))
    assert slate == [far, *plain[:4]]


def test_several_pins_stand_side_by_side(shop: Shop) -> None:
    [plain] = shop.slates()
    [slate] = shop.slates(pin(2, plain[4], plain[3]), pin(2, plain[0]))
    assert slate == [plain[1], plain[4], plain[0], plain[3], plain[2]]


def test_a_pin_beyond_the_slate_stands_at_its_end(shop: Shop) -> None:
    [plain] = shop.slates()
    assert shop.slates(pin(9, plain[0])) == [[*plain[1:], plain[0]]]


def test_a_hidden_item_is_not_shown_where_it_is_pinned(shop: Shop) -> None:
    [plain] = shop.slates()
    [slate] = shop.slates(pin(1, plain[2]), {"action": "hide", "items": plain[2:3]})
    assert slate[:4] == [*plain[:2], *plain[3:]]


def test_a_rule_changes_the_slates_of_its_placements_alone(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "r1", FOR_YOU, DISCOVER)
    plain, discover = shop.slates()
    first, second = shop.slates({"action": "hide", "items": discover[:1], "placements": ["discover"]})
    assert first == plain
    assert second[:4] == discover[1:]
    first, second = shop.slates(pin(1, discover[3], placements=["discover"]))
    assert first == plain
    assert second[0] == discover[3]


def test_an_item_is_not_pinned_where_its_placement_may_not_show_it(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "r1", FOR_YOU, DISCOVER)
    seen = "item 0"
    assert seen not in shop.slates(pin(1, seen))[1]


def test_an_item_is_not_pinned_on_two_placements_of_which_one_is_without_the_other(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "r1", FOR_YOU, OTHERS)
    plain, others = shop.slates()
    first, second = shop.slates(pin(1, plain[2]))
    assert first[0] == plain[2]
    assert second == others


def test_a_pinned_item_stands_before_the_explored_places(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "r1", explore_places=1)
    [plain] = shop.slates()
    [slate] = shop.slates(pin(5, plain[0]))
    assert slate[3] == plain[0], "the fifth place is drawn"


def test_what_is_hidden_leaves_as_many_candidates_as_before(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "r1", retrieval_k=SLATE)
    [plain] = shop.slates()
    hidden = [f"item {n}" for n in range(0, 60, 3)]
    [slate] = shop.slates({"action": "hide", "items": hidden})
    assert len(slate) == SLATE
    assert not set(slate) & set(hidden)
    assert [item for item in plain if item not in hidden] == [item for item in slate if item in plain]


def test_without_a_rule_about_them_no_scores_change(shop: Shop) -> None:
    assert np.array_equal(shop.rank().score, shop.rank({"action": "hide", "brands": ["unknown"]}).score)
