"""Explored places on the topics: marked on the ranking, joined with the next event, and the same after a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from anabranch.messages import Event, Feedback, Ranking
from tests.support.ranker_world import RankerWorld, purchases


@pytest.fixture
def world(tmp_path: Path) -> RankerWorld:
    return RankerWorld(tmp_path, explore_places=1)


def answer(world: RankerWorld, place: int) -> Event:
    """An event of u0 about what stands at a place of their last slate."""
    slate = last_ranking(world).slate
    number = len(world.sent)
    return Event(event_id=f"a{number}", user_id="u0", type="view", ts=10_000_000 + number, item_id=slate[place].item_id)


def last_ranking(world: RankerWorld, back: int = 1) -> Ranking:
    return [ranking for ranking in world.rankings() if ranking.user_id == "u0"][-back]


def last_feedback(world: RankerWorld) -> Feedback:
    return [entry for entry in world.feedback() if entry.event.user_id == "u0"][-1]


def test_a_ranking_says_how_many_of_its_last_places_were_drawn_and_they_are_counted(world: RankerWorld) -> None:
    process = world.rank(*purchases(8))
    assert {ranking.explored for ranking in world.rankings()} == {1}
    assert process.metric("explored_places_total") == 8


def test_explored_places_with_an_item_that_has_no_event_yet_are_counted(tmp_path: Path) -> None:
    process = RankerWorld(tmp_path, explore_places=1, explore_new_items=25).rank(*purchases(8))
    assert process.metric("explored_places_total") == 8
    assert 0 < process.metric("explored_new_items_total") <= 8


@pytest.mark.parametrize("is_saved", [True, False], ids=["in a saved state", "on rankings only"])
@pytest.mark.parametrize(("place", "propensity"), [(0, 1.0), (3, 1.0), (4, 0.04)])
def test_the_propensity_of_a_slate_survives_a_restart(
    world: RankerWorld, place: int, propensity: float, is_saved: bool
) -> None:
    process = world.rank(*purchases(8))
    if is_saved:
        process.stop()
        assert world.saved_states()["u0"].explored == 1
    successor = world.rank(answer(world, place))
    assert last_feedback(world).rank == place + 1
    assert last_feedback(world).propensity == propensity
    assert last_feedback(world).propensity == last_ranking(world, back=2).propensity(place + 1)
    world.assert_exactly_once(successor)


def test_a_ranker_that_no_longer_explores_still_knows_what_was_drawn(world: RankerWorld) -> None:
    world.rank(*purchases(8)).stop()
    successor = world.process(explore_places=0)
    successor.settle()
    world.send(answer(world, 4))
    successor.settle()
    assert (last_feedback(world).propensity, last_ranking(world).explored) == (0.04, 0)
    world.send(answer(world, 4))
    successor.settle()
    assert (last_feedback(world).rank, last_feedback(world).propensity) == (5, None)
