"""Impressions, and placements that rotate what was shown and not taken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from anabranch.messages import Event
from anabranch.placements import AGAIN, DISCOVER, FOR_YOU, AtMost, Placement, Rotation
from anabranch.ranking.pipeline.rank import RankingResult
from anabranch.ranking.rules_in_force import Pins, RulesInForce
from tests.unit.ranking.pipeline.test_placements import CATALOGUE, IMPRESSION_ITEMS, Shop, view

HOUR_MS = 3_600_000
START_MS = 10 * HOUR_MS
HOURLY = Rotation(after=2, rest_h=1.0)
ROTATING = Placement(name="for_you", rotation=HOURLY)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "r1"


def view_at(ms: int, item: int | str = 3, session: str = "s0") -> Event:
    """A view by ann."""
    return msgspec.structs.replace(view(0, item, session), event_id=f"v{ms}", ts=ms)


def impression(second: int, *items: str) -> Event:
    """So many seconds after the start ann is shown these items."""
    ts = START_MS + 1_000 * second
    return Event(event_id=f"i{second}", user_id="ann", type="impression", ts=ts, shown=items)


def rotating(placement: Placement) -> Placement:
    return msgspec.structs.replace(placement, rotation=HOURLY)


def slates_after(shop: Shop, *events: Event) -> dict[str, list[str]]:
    """What ann is shown after these events and a view."""
    return shop.slates(shop.rank(*events, view_at(max([START_MS, *(event.ts for event in events)]) + 1)))


def for_you(shop: Shop, *events: Event) -> list[str]:
    return slates_after(shop, *events)["for_you"]


def test_an_item_that_was_shown_often_enough_and_not_taken_makes_room_for_the_next_best(folder: Path) -> None:
    shop, plain = Shop(folder, ROTATING), Shop(folder, FOR_YOU)
    slate = for_you(shop)
    assert for_you(plain) == slate
    assert for_you(shop, impression(1, *slate[:2])) == for_you(plain, impression(1, "item 0"))
    expected, rotated = for_you(plain, impression(2, "item 0")), for_you(shop, impression(2, slate[0]))
    assert rotated[:4] == [item for item in expected if item != slate[0]][:4]
    assert rotated[4] not in expected


def test_only_placements_with_a_rotation_rotate(folder: Path) -> None:
    shop = Shop(folder, FOR_YOU, msgspec.structs.replace(ROTATING, name="home"), DISCOVER)
    before = slates_after(shop)
    shown = before["home"][:4]
    after = slates_after(shop, *(impression(n, *shown) for n in range(2)))
    assert before["home"] == before["for_you"]
    assert not {*after["home"]} & {*shown}
    assert {*shown} <= {*after["for_you"]}
    assert {*shown} & {*after["discover"]}


def test_a_varied_slate_rotates(folder: Path) -> None:
    shop = Shop(folder, rotating(Placement(name="for_you", at_most=AtMost(brand=9))))
    slate = for_you(shop)
    assert slate[0] not in for_you(shop, *(impression(n, slate[0]) for n in range(2)))


def test_what_rests_is_shown_where_there_is_nothing_else(folder: Path) -> None:
    shop = Shop(folder, FOR_YOU, rotating(AGAIN))
    past = (view_at(1_000, 3), view_at(2_000, 4), view_at(START_MS, 5, "now"))
    before = shop.slates(shop.rank(*past))["again"]
    shown = [impression(n, before[0]) for n in range(2)]
    ranked = shop.rank(*shown, view_at(START_MS + 60_000, 5, "now"))
    assert shop.slates(ranked)["again"] == [*before[1:], before[0]]


def test_an_item_that_the_user_takes_an_interest_in_rests_no_more(folder: Path) -> None:
    shop = Shop(folder, ROTATING)
    first, second, *_ = for_you(shop)
    events = (*(impression(n, first, second) for n in range(2)), view_at(START_MS + 5_000, first))
    slot = shop.states.slots(["ann"])[0]
    shop.rank(*events)
    assert [shop.item_ids.id(row) for row in shop.states.columns.shown_item[slot] if row >= 0] == [second]
    again = shop.slates(shop.rank(view_at(START_MS + 6_000, 7, "another session")))["for_you"]
    assert first in again
    assert second not in again


def test_after_its_rest_an_item_is_shown_once_more_and_rests_again(folder: Path) -> None:
    shop = Shop(folder, ROTATING)
    item = for_you(shop)[0]
    shop.rank(*(impression(n, item) for n in range(1, 3)))
    end_ms = START_MS + 2_000 + HOUR_MS
    assert item not in shop.slates(shop.rank(view_at(end_ms - 1)))["for_you"]
    assert item in shop.slates(shop.rank(view_at(end_ms)))["for_you"]
    assert item not in for_you(shop, impression(2 + 3600, item))


@pytest.mark.parametrize("second", [1, 0], ids=["twice", "late"])
def test_an_impression_that_comes_twice_or_late_does_not_count(folder: Path, second: int) -> None:
    shop = Shop(folder, ROTATING)
    item = for_you(shop)[0]
    assert item in for_you(shop, impression(1, item), impression(second, item))


def test_an_impression_that_comes_after_the_user_took_the_item_does_not_count(folder: Path) -> None:
    """A page reports what it showed when it is left, and a producer sends a batch again."""
    shop = Shop(folder, ROTATING)
    item = for_you(shop)[0]
    shown = [impression(n, item) for n in (1, 2)]
    shop.rank(*shown, view_at(START_MS + 3_000, item), *shown)
    assert (shop.states.columns.shown_item[shop.states.slots(["ann"])[0]] == -1).all()


def test_no_explored_place_shows_what_rests(folder: Path) -> None:
    shop = Shop(folder, ROTATING, explore_places=1)
    slate = for_you(shop)
    shop.rank(*(impression(n, *slate, "item 0") for n in (1, 2)))
    for n in range(30):
        shown = shop.slates(shop.rank(view_at(START_MS + 60_000 + n)))["for_you"]
        assert not {*slate, "item 0"} & {*shown}


@pytest.mark.parametrize("calibration", [0.0, 0.99])
def test_nothing_that_rests_stands_before_what_does_not(folder: Path, calibration: float) -> None:
    shop = Shop(folder, rotating(Placement(name="for_you", calibration=calibration)))
    shop.describe(*(("brand", "liked") for _ in range(9)))
    slate = for_you(shop)
    assert not {*slate} & {*for_you(shop, *(impression(n, *slate) for n in (1, 2)))}


def test_a_pinned_item_does_not_rest(folder: Path) -> None:
    shop = Shop(folder, ROTATING)
    slate = for_you(shop)
    pins = {0: Pins(np.array([shop.item_ids.row(slate[1])], np.int32), np.array([0], np.int32))}
    shop.policy = replace(shop.policy, rules=RulesInForce(pins=pins))
    ranked = shop.rank(*(impression(n, *slate[:2]) for n in range(2)), view_at(START_MS + 60_000))
    rotated = shop.slates(ranked)["for_you"]
    assert rotated[0] == slate[1]
    assert slate[0] not in rotated
    assert ranked.resting.tolist() == [0, 0, 1]


def test_a_full_list_forgets_what_was_shown_longest_ago(folder: Path) -> None:
    shop = Shop(folder, ROTATING)
    slate = for_you(shop)
    others = [item for item in CATALOGUE if item not in slate][: IMPRESSION_ITEMS - 2]
    shown = [*(impression(n, slate[0]) for n in (1, 2)), *(impression(n, *slate[1:3]) for n in (3, 4))]
    rotated = for_you(shop, *shown, impression(5, *others))
    assert slate[0] in rotated
    assert not {*slate[1:3]} & {*rotated}


def test_a_page_of_more_items_than_there_is_room_for_does_not_displace_its_first_ones(folder: Path) -> None:
    shop = Shop(folder, ROTATING)
    slate = for_you(shop)
    page = [*slate, *(item for item in CATALOGUE if item not in slate)]
    assert not {*slate[:4]} & {*for_you(shop, *(impression(n, *page) for n in (1, 2)))}


def test_a_count_stays_at_its_maximum(folder: Path) -> None:
    shop = Shop(folder, ROTATING)
    item = for_you(shop)[0]
    assert item not in for_you(shop, *(impression(n, item) for n in range(1, 258)))
    assert shop.states.columns.shown_count[shop.states.slots(["ann"])[0]].max() == 255


def test_the_resting_candidates_are_counted(folder: Path) -> None:
    shop = Shop(folder, ROTATING, msgspec.structs.replace(ROTATING, name="home"), DISCOVER)
    slate = for_you(shop)
    ranked = shop.rank(*(impression(n, *slate) for n in (1, 2)), view_at(START_MS + 60_000))
    assert ranked.resting.tolist() == [0, 0, 2 * len(slate)]


@pytest.mark.parametrize("explore_places", [0, 1])
def test_an_impression_is_not_ranked_after_and_leaves_the_slate_that_the_next_event_is_joined_with(
    folder: Path, explore_places: int
) -> None:
    shown, plain = (Shop(folder, ROTATING, explore_places=explore_places) for _ in range(2))
    slates = [for_you(shop) for shop in (shown, plain)]
    impressions = shown.rank(*(impression(n, *slates[0]) for n in (1, 2)))
    assert impressions.ranked.tolist() == [False, False]
    last = slates[0][-1]
    taken = [shop.rank(view_at(START_MS + 60_000, last)).feedback for shop in (shown, plain)]
    assert taken[0].rank.tolist() == taken[1].rank.tolist() == [len(slates[0])]
    assert taken[0].propensity.tolist() == taken[1].propensity.tolist()


def test_what_a_user_was_shown_changes_nothing_else(folder: Path) -> None:
    """Neither history, session, clock, vector nor the ids by which duplicates are found."""
    shown, plain = Shop(folder, FOR_YOU), Shop(folder, FOR_YOU)
    shown.rank(view_at(START_MS), *(impression(n, "item 7", "item 8") for n in range(40)))
    plain.rank(view_at(START_MS))
    for name in ("event_count", "last_ts", "session", "session_length", "vector", "recurrent", "recent_event", "slate"):
        np.testing.assert_array_equal(getattr(shown.states.columns, name)[0], getattr(plain.states.columns, name)[0])
    assert shown.rank(view_at(START_MS)).duplicate.tolist() == [True]
    assert_same_slates(*(shop.rank(view_at(START_MS + 2 * HOUR_MS, 4)) for shop in (shown, plain)))


def assert_same_slates(result: RankingResult, expected: RankingResult) -> None:
    np.testing.assert_array_equal(result.slates, expected.slates)
    np.testing.assert_array_equal(result.scores, expected.scores)


def test_a_user_may_begin_with_an_impression(folder: Path) -> None:
    shop = Shop(folder, ROTATING)
    ranked = shop.rank(impression(1, "item 7", "described by nobody"), view_at(START_MS + 2_000))
    assert ranked.ranked.tolist() == [False, True]
    assert ranked.unknown_item.tolist() == [False, False]
    assert len(shop.slates(ranked)["for_you"]) == 5


def test_an_item_that_was_shown_before_it_was_described_rests_when_it_is(folder: Path) -> None:
    shop = Shop(folder, ROTATING)
    shop.rank(*(impression(n, "named later") for n in range(2)))
    shop.item_ids.row("named later")
    assert shop.states.unnamed_in_use(shop.item_ids.unnamed_end).any()
    shop.states.renumber_items(*shop.item_ids.settle())
    slot = shop.states.slots(["ann"])[0]
    assert shop.item_ids.row("named later") in shop.states.columns.shown_item[slot]
