"""Impressions, and placements that rotate what was shown and not taken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from anabranch.messages import Event
from anabranch.placements import DISCOVER, FOR_YOU, Placement, Rotation
from anabranch.ranking.pipeline.rank import RankingResult
from anabranch.ranking.rules_in_force import Pins, RulesInForce
from tests.unit.ranking.pipeline.test_placements import CATALOGUE, SHOWN_ITEMS, Shop, view

HOUR_MS = 3_600_000
START_MS = 10 * HOUR_MS
ROTATING = Placement(name="for_you", rotation=Rotation(after=2, rest_h=1.0))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "r1"


def at(ms: int, event: Event) -> Event:
    return msgspec.structs.replace(event, ts=ms)


def impression(number: int, *items: str, ms: int = START_MS) -> Event:
    return Event(event_id=f"i{number}", user_id="ann", type="impression", ts=ms, shown=items)


def first_slate(shop: Shop) -> list[str]:
    """What ann is shown after a view."""
    return shop.slates(shop.rank(at(START_MS, view(0, 3))))["for_you"]


def for_you(shop: Shop, *events: Event) -> list[str]:
    return shop.slates(shop.rank(*events))["for_you"]


def test_an_item_that_was_shown_often_enough_and_not_taken_makes_room_for_the_next_best(folder: Path) -> None:
    shop, slate = Shop(folder, ROTATING), first_slate(Shop(folder, FOR_YOU))
    assert first_slate(shop) == slate
    assert for_you(shop, impression(1, *slate[:2])) == slate
    rotated = for_you(shop, impression(2, *slate[:1]))
    assert rotated[:4] == slate[1:]
    assert rotated[4] not in slate


def test_only_a_placement_with_a_rotation_rotates(folder: Path) -> None:
    shop = Shop(folder, replace_name(ROTATING, "home"), FOR_YOU, DISCOVER)
    before = shop.slates(shop.rank(at(START_MS, view(0, 3))))
    after = shop.slates(shop.rank(*(impression(n, *before["home"][:1]) for n in range(2))))
    assert before["home"] == before["for_you"] == after["for_you"]
    assert after["home"][:4] == before["home"][1:]
    assert after["discover"] == before["discover"]


def replace_name(placement: Placement, name: str) -> Placement:
    return msgspec.structs.replace(placement, name=name)


def test_an_item_that_the_user_takes_an_interest_in_rests_no_more(folder: Path) -> None:
    rotating, plain = Shop(folder, ROTATING), Shop(folder, FOR_YOU)
    slate = first_slate(rotating)
    first_slate(plain)
    events = (
        *(impression(n, *slate[:2]) for n in range(2)),
        at(START_MS + 1_000, view(1, slate[0])),
        at(START_MS + 2_000, view(2, 7, "another session")),
    )
    expected = for_you(plain, *events)
    assert slate[0] in expected
    assert slate[1] in expected
    assert for_you(rotating, *events)[:4] == [item for item in expected if item != slate[1]]


def test_after_its_rest_an_item_is_shown_once_more_and_rests_again(folder: Path) -> None:
    shop = Shop(folder, ROTATING)
    slate = first_slate(shop)
    shop.rank(impression(1, slate[0]), impression(2, slate[0]))
    assert slate[0] not in for_you(shop, at(START_MS + HOUR_MS - 1, view(1, 3)))
    assert slate[0] in for_you(shop, at(START_MS + HOUR_MS, view(2, 3)))
    assert slate[0] not in for_you(shop, impression(3, slate[0], ms=START_MS + HOUR_MS))


def test_an_impression_that_comes_twice_counts_once(folder: Path) -> None:
    shop = Shop(folder, ROTATING)
    slate = first_slate(shop)
    shop.rank(impression(1, slate[0]), impression(1, slate[0]))
    assert slate[0] in for_you(shop, at(START_MS + 1, view(1, 3)))


def test_a_pinned_item_does_not_rest(folder: Path) -> None:
    shop = Shop(folder, ROTATING)
    slate = first_slate(shop)
    pins = {0: Pins(np.array([shop.item_ids.row(slate[1])], np.int32), np.array([0], np.int32))}
    shop.policy = replace(shop.policy, rules=RulesInForce(pins=pins))
    rotated = for_you(shop, *(impression(n, *slate[:2]) for n in range(2)))
    assert rotated[0] == slate[1]
    assert slate[0] not in rotated


def test_a_full_list_forgets_what_was_shown_longest_ago(folder: Path) -> None:
    shop = Shop(folder, ROTATING)
    slate = first_slate(shop)
    shop.rank(*(impression(n, slate[0], ms=START_MS) for n in range(2)))
    shop.rank(*(impression(n, *slate[1:3], ms=START_MS + 1_000) for n in range(2, 4)))
    others = [item for item in CATALOGUE if item not in slate][: SHOWN_ITEMS - 2]
    rotated = for_you(shop, impression(5, *others, ms=START_MS + 2_000))
    assert slate[0] in rotated
    assert not {*slate[1:3]} & {*rotated}


def test_the_resting_candidates_are_counted(folder: Path) -> None:
    shop = Shop(folder, ROTATING)
    slate = first_slate(shop)
    ranked = shop.rank(*(impression(n, *slate) for n in range(2)))
    assert ranked.resting.tolist() == [0, len(slate)]


def test_what_a_user_was_shown_changes_nothing_else(folder: Path) -> None:
    """Neither history, session, clock nor vector: all that was shown since may as well not have been."""
    shown, plain = Shop(folder, FOR_YOU), Shop(folder, FOR_YOU)
    for shop, events in ((shown, [impression(1, "item 7", "item 8", ms=START_MS + HOUR_MS)]), (plain, [])):
        shop.rank(at(START_MS, view(0, 3)))
        shop.rank(*events)
    with_impression, without = shown.rank(late_view()), plain.rank(late_view())
    assert_same_slates(with_impression, without)
    for name in ("event_count", "last_ts", "session", "session_length", "vector", "recurrent"):
        np.testing.assert_array_equal(getattr(shown.states.columns, name)[0], getattr(plain.states.columns, name)[0])


def late_view() -> Event:
    return at(START_MS + 2 * HOUR_MS, view(1, 4))


def assert_same_slates(one: RankingResult, other: RankingResult) -> None:
    np.testing.assert_array_equal(one.slates, other.slates)
    np.testing.assert_array_equal(one.scores, other.scores)


def test_an_impression_is_ranked_after_as_every_event_is(folder: Path) -> None:
    shop = Shop(folder, ROTATING)
    ranked = shop.rank(impression(1, "item 7", "described by nobody"))
    assert ranked.ranked.tolist() == [True]
    assert (ranked.slate[0] >= 0).any()
    assert ranked.unknown_item.tolist() == [False]


def test_an_item_that_was_shown_before_it_was_described_rests_when_it_is(folder: Path) -> None:
    shop = Shop(folder, ROTATING)
    shop.rank(*(impression(n, "named later") for n in range(2)))
    shop.item_ids.row("named later")
    assert shop.states.unnamed_in_use(shop.item_ids.unnamed_end).any()
    shop.states.renumber_items(*shop.item_ids.settle())
    slot = shop.states.slots(["ann"])[0]
    assert shop.item_ids.row("named later") in shop.states.columns.shown_item[slot]
