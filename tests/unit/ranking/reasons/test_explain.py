"""A reason is true: it adds up to the score, and without its cause the item falls."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anabranch.messages import Event, Rule
from anabranch.placements import DISCOVER, FOR_YOU
from anabranch.ranking.event_batch import EventBatch
from anabranch.ranking.pipeline.features import FEATURES
from anabranch.ranking.pipeline.rank import rank
from anabranch.ranking.pipeline.user_update import update_user_states
from anabranch.ranking.policy import Policy
from anabranch.ranking.reasons.explain import FEATURE_GROUPS, ExplainedRanking, Near, Neighbour, OwnEvents, Reason
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.rules.item_effects import rules_in_force
from anabranch.ranking.rules.rule_book import numbered
from anabranch.ranking.user_state.store import UserStates
from anabranch.ranking.vocabulary import ItemVocabulary
from tests.support.layouts import LAYOUT
from tests.support.releases import DIMS, live_release, write_release

CATALOGUE = [f"item {n}" for n in range(60)]
HAD = (3, 4, 5)
"""Items of the user's events, in an earlier session; the newest event is about item 59."""


class Shop:
    """A ranker's core, and a user's ranking in it."""

    def __init__(self, folder: Path) -> None:
        write_release(folder, "r1", CATALOGUE)
        self.item_ids = ItemVocabulary()
        self.live = live_release(folder, self.item_ids, CATALOGUE)
        self.co_visits = CoVisitRows()
        self.policy = Policy(placements=(FOR_YOU, DISCOVER), retrieval_k=10)
        self.layout = LAYOUT._replace(slate=5, placements=self.policy.placement_names)
        self.had = HAD

    def neighbours(self, item: int, *near: int) -> None:
        weights = np.linspace(0.9, 0.5, len(near)).astype(np.float32)
        self.co_visits.set(self.row(item), self.item_ids.rows(f"item {n}" for n in near), weights, 0.1, 0, 0.2)

    def row(self, item: int) -> int:
        return self.item_ids.row(f"item {item}")

    def _batch(self, states: UserStates) -> EventBatch:
        events = [
            Event(event_id=f"{n}", user_id="ann", type="view", ts=1_000 * n, item_id=f"item {item}", session_id=session)
            for n, (item, session) in enumerate([*((item, "then") for item in self.had), (59, "now")], start=1)
        ]
        return EventBatch.from_events(events, states.slots(e.user_id for e in events), self.item_ids)

    def explained(self) -> ExplainedRanking:
        states = UserStates(self.layout, DIMS, DIMS)
        query = update_user_states(self.live, states, self._batch(states), latest=True).snapshots
        return ExplainedRanking(self.live, self.co_visits, query, self.policy, self.layout)

    def reason(self, item: int, placement: int = 0) -> Reason:
        return next(r for r in self.explained().reasons(placement) if r.item == self.row(item))

    def place(self, item: int) -> int:
        """On the first slate; beyond its end if it is not there."""
        slate = self.explained().slates[0].tolist()
        return slate.index(self.row(item)) if self.row(item) in slate else len(slate)

    def rule(self, **fields: object) -> None:
        entry = numbered(Rule(rule_id="r", **fields), self.item_ids)  # type: ignore[arg-type]
        in_force = rules_in_force([entry], self.live.index, self.policy.placement_names, 4)
        self.policy = replace(self.policy, rules=in_force)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "r1")


def test_every_feature_is_in_one_group() -> None:
    assert sorted(name for names in FEATURE_GROUPS.values() for name in names) == sorted(FEATURES)


def test_reasons_are_of_the_slates_that_the_ranker_makes_and_add_up_to_their_scores(shop: Shop) -> None:
    shop.neighbours(59, 20, 21)
    shop.rule(action="boost", items=["item 20"], factor=2.0)
    states = UserStates(shop.layout, DIMS, DIMS)
    ranked = rank(shop.live, shop.co_visits, states, shop._batch(states), shop.policy)
    for placement in range(2):
        reasons = shop.explained().reasons(placement)
        assert [reason.item for reason in reasons] == ranked.slates[-1, placement].tolist()
        np.testing.assert_allclose([r.score for r in reasons], ranked.scores[-1, placement], rtol=1e-4, atol=1e-5)
        for reason in reasons:
            told = reason.base + sum(reason.contributions.values()) + reason.by_rules
            assert told == pytest.approx(reason.score, abs=1e-4)


def test_an_item_that_the_user_had_events_about_says_so_and_falls_without_them(shop: Shop) -> None:
    [own, *_] = shop.reason(4).sources
    assert own == OwnEvents(count=1, newest_s=2)
    place = shop.place(4)
    shop.had = (3, 5)
    assert shop.place(4) > place


def test_a_neighbour_says_of_which_item_and_falls_when_it_is_none_any_more(shop: Shop) -> None:
    shop.neighbours(59, 20, 21)
    shop.neighbours(5, 20)
    neighbour = next(source for source in shop.reason(20).sources if isinstance(source, Neighbour))
    assert neighbour == Neighbour(of=shop.row(59), since_s=4, share=pytest.approx(0.9))
    made_of, place = shop.reason(20).contributions, shop.place(20)
    assert max(made_of, key=lambda group: made_of[group]) == "visited together"
    shop.neighbours(59, 21)
    shop.neighbours(5)
    assert shop.place(20) > place


def test_an_item_near_the_users_vector_says_its_place_in_the_index(shop: Shop) -> None:
    found = shop.live.index.search(shop.explained().query.vector, 10)[0][0].tolist()
    for reason in shop.explained().reasons(placement=1):
        assert Near(found.index(reason.item) + 1) in reason.sources


def test_an_item_that_a_rule_alone_put_there_has_no_source_and_is_gone_without_the_rule(shop: Shop) -> None:
    found = shop.live.index.search(shop.explained().query.vector, 10)[0][0].tolist()
    far = next(n for n in range(10, 59) if shop.row(n) not in found)
    shop.rule(action="pin", items=[f"item {far}"], position=1)
    assert shop.place(far) == 0
    assert shop.reason(far).sources == ()
    shop.policy = replace(shop.policy, rules=Policy().rules)
    assert shop.place(far) == shop.layout.slate


def test_what_a_boost_adds_is_told_apart_from_what_the_release_says(shop: Shop) -> None:
    before = shop.reason(4)
    shop.rule(action="boost", items=["item 4"], factor=2.0)
    boosted = shop.reason(4)
    assert boosted.by_rules == pytest.approx(np.log(2))
    assert boosted.score == pytest.approx(before.score + np.log(2))
    assert boosted.contributions == pytest.approx(before.contributions, abs=1e-5)


def test_a_user_whose_placement_shows_nothing_has_no_reasons(shop: Shop) -> None:
    shop.policy = replace(shop.policy, retrieval_k=0)
    assert shop.explained().reasons(placement=1) == []
