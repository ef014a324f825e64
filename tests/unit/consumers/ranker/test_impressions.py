"""Impressions on the topics: no ranking of their own, rotated away, and the same after a restart."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from anabranch.messages import Event
from anabranch.placements import Placement, Rotation
from tests.support.ranker_world import RankerWorld, purchases

NOW_MS = 10_000_000


@pytest.fixture
def world(tmp_path: Path) -> RankerWorld:
    return RankerWorld(tmp_path, placements=(Placement(name="for_you", rotation=Rotation(after=2, rest_h=24)),))


def impression(world: RankerWorld) -> Event:
    """What u0 is shown: the first two items of their last slate."""
    number = len(world.sent)
    shown = tuple(slate(world)[:2])
    return Event(event_id=f"i{number}", user_id="u0", type="impression", ts=NOW_MS + 1_000 * number, shown=shown)


def search(world: RankerWorld) -> Event:
    number = len(world.sent)
    return Event(event_id=f"s{number}", user_id="u0", type="search", ts=NOW_MS + 1_000 * number, query="item 3")


def slate(world: RankerWorld) -> list[str]:
    """The last slate of u0."""
    return [item.item_id for item in [row for row in world.rankings() if row.user_id == "u0"][-1].slate]


@pytest.mark.parametrize("is_saved", [True, False], ids=["in a saved state", "on events only"])
def test_what_a_user_was_shown_survives_a_restart(world: RankerWorld, is_saved: bool) -> None:
    process = world.rank(*purchases(8))
    before = slate(world)
    for _ in range(2):
        world.send(impression(world))
        process.settle()
    assert slate(world) == before
    if is_saved:
        process.stop()
    successor = world.rank(search(world))
    assert not {*before[:2]} & {*slate(world)}
    assert successor.metric("resting_candidates_total") == 2
    world.assert_exactly_once(successor)


def test_an_impression_has_feedback_and_no_ranking_and_neither_it_nor_a_search_is_an_event_to_hit(
    world: RankerWorld,
) -> None:
    process = world.rank(*purchases(8))
    hits, events = (process.metric(f"prequential_{name}_total", release="r1") for name in ("hits", "events"))
    shown, looked_for = impression(world), search(world)
    taken = Event(event_id="v", user_id="u0", type="view", ts=NOW_MS + 99_000, item_id=slate(world)[0])
    world.send(shown, taken, looked_for)
    process.settle()
    assert {"v", looked_for.event_id} <= world.slates().keys()
    assert shown.event_id not in world.slates()
    [feedback] = [row for row in world.feedback() if row.event.event_id == shown.event_id]
    assert (feedback.event, feedback.rank, feedback.ranks) == (shown, None, {})
    assert process.metric("impressions_total") == 1
    assert process.metric("prequential_events_total", release="r1") == events + 1
    assert process.metric("prequential_hits_total", release="r1") == hits + 1


def test_without_a_rotation_nothing_is_kept_of_impressions(tmp_path: Path) -> None:
    world = RankerWorld(tmp_path)
    process = world.rank(*purchases(8))
    for _ in range(3):
        world.send(msgspec.structs.replace(impression(world), shown=("described by nobody",)))
        process.settle()
    assert process.store.items.unnamed == 0
    assert process.store.users.columns.shown_item.nbytes == 0
