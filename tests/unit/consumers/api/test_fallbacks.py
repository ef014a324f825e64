"""Users whom nobody knows get what is popular, and slates under conditions are filled up wherever items meet them."""

from __future__ import annotations

import msgspec
import numpy as np

from anabranch.http.messages.serving import ItemConditions, RecentEvent
from anabranch.messages import Event, Rule
from anabranch.placements import EACH_CLASS, FOR_YOU, Placement
from anabranch.ranking.rules.rule_book import numbered
from consumers.api.answers.queries import SimilarQuery, TrendingQuery
from consumers.releases.updates import RuleUpdate
from tests.support.ranker_world import CATALOGUE, RankerWorld, purchases
from tests.support.replica_world import ReplicaProcess, describe, ids, set_popularity, settled, slate_of


def test_a_user_whom_nobody_knows_gets_what_is_popular(world: RankerWorld) -> None:
    replica = settled(world)
    set_popularity(replica, CATALOGUE[10:14])
    answer = replica.answer(slate_of("nobody", limit=40))
    assert (answer.is_known, answer.as_of) == (False, None)
    assert ids(answer)[:4] == ids(replica.answer(TrendingQuery(10))) == CATALOGUE[10:14]
    assert [item.source for item in answer.items] == 4 * ["popularity"] + 36 * ["index"], "the rest comes behind"
    assert replica.store.users.slot_of("nobody", 0) is None, "asking makes no state"


def test_a_user_whom_nobody_knows_gets_what_is_popular_of_the_category_that_is_asked_for(world: RankerWorld) -> None:
    replica = settled(world)
    set_popularity(replica, CATALOGUE[10:30])
    soups = [*CATALOGUE[15:18], *CATALOGUE[38:40]]
    describe(replica, **{item_id: {"category": ["SOUP"], "domain": "food"} for item_id in soups})
    for conditions in (ItemConditions(categories=(["SOUP"],)), ItemConditions(domains=("food",))):
        answer = replica.answer(slate_of("nobody", limit=10, conditions=conditions))
        assert ids(answer)[:3] == ids(replica.answer(TrendingQuery(10, conditions))) == CATALOGUE[15:18]
        assert set(ids(answer)[3:]) == {CATALOGUE[38], CATALOGUE[39]}, "nothing is known of these"
        assert [item.source for item in answer.items] == 3 * ["popularity"] + 2 * ["index"]


def test_a_user_whom_nobody_knows_gets_an_answer_where_nothing_is_popular_yet(world: RankerWorld) -> None:
    assert len(settled(world).answer(slate_of("nobody", limit=7)).items) == 7


def test_rules_hold_for_users_whom_nobody_knows(world: RankerWorld) -> None:
    replica = settled(world)
    set_popularity(replica, CATALOGUE[10:14])
    for rule_id, fields in (
        ("a", {"action": "hide", "items": [CATALOGUE[10]]}),
        ("b", {"action": "pin", "items": [CATALOGUE[30]], "position": 1}),
        ("c", {"action": "boost", "items": [CATALOGUE[13]], "factor": 3.0}),
    ):
        rule = msgspec.convert({"rule_id": rule_id, **fields}, Rule)
        replica.releases.updates.append(RuleUpdate(rule_id, numbered(rule, replica.store.items)))
    replica.settle()
    shown = ids(replica.answer(slate_of("nobody", limit=4)))
    assert shown == [CATALOGUE[30], CATALOGUE[13], CATALOGUE[11], CATALOGUE[12]], "shares 1/8 by 3, 1/4, 1/6"


def test_a_guest_who_has_only_searched_is_ranked_by_the_search(world: RankerWorld) -> None:
    replica = settled(world)
    set_popularity(replica, CATALOGUE[10:14])
    searched = replica.answer(slate_of(None, events=(RecentEvent(type="search", query=CATALOGUE[3]),)))
    assert searched.is_known
    assert ids(searched) != ids(replica.answer(slate_of(None)))


def test_a_user_who_was_only_shown_something_has_done_nothing_yet(world: RankerWorld) -> None:
    world.rank(Event(event_id="s", user_id="u1", type="impression", ts=5, shown=(CATALOGUE[1],)))
    replica = settled(world)
    set_popularity(replica, CATALOGUE[10:14])
    answer = replica.answer(slate_of("u1"))
    assert (answer.is_known, answer.as_of) == (True, None)
    assert ids(answer) == ids(replica.answer(slate_of("nobody")))


def test_conditions_let_some_items_through_and_fill_the_slate_with_them(world: RankerWorld) -> None:
    """Ten of forty items, of which the user's slate without conditions has few."""
    world.rank(*purchases(4))
    replica = settled(world)
    soups = CATALOGUE[25:35]
    describe(replica, **{item_id: {"category": ["FOOD", "SOUP"], "price": 2.0} for item_id in soups})
    for conditions in (
        ItemConditions(categories=(["FOOD"],)),
        ItemConditions(categories=(["FOOD", "SOUP"],)),
        ItemConditions(price_below=3.0),
        ItemConditions(price_from=1.0),
    ):
        assert set(ids(replica.answer(slate_of("u1", limit=10, conditions=conditions)))) == set(soups)
        strangers = replica.answer(slate_of("nobody", limit=10, conditions=conditions))
        assert {(item.item_id, item.source) for item in strangers.items} == {(soup, "index") for soup in soups}
    some = ItemConditions(categories=(["FOOD"],), exclude=tuple(soups[:4]))
    assert set(ids(replica.answer(slate_of("u1", limit=10, conditions=some)))) == set(soups[4:])
    assert ids(replica.answer(slate_of("u1", conditions=ItemConditions(brands=("none",))))) == []


def test_what_fills_a_slate_up_under_conditions_says_whether_it_is_near_or_popular(world: RankerWorld) -> None:
    """Five items are retrieved, and one for that of this session; a boost brings one that is none of them."""
    world.settings["retrieval_k"] = 5
    world.rank(*purchases(4))
    replica = settled(world)
    set_popularity(replica, CATALOGUE[20:40])
    cosine = replica.vectors(CATALOGUE[20:]) @ replica.vector("u1")
    nearest = [CATALOGUE[20 + number] for number in np.argsort(-cosine)]
    rule = msgspec.convert({"rule_id": "r", "action": "boost", "items": nearest[-1:], "factor": 1000}, Rule)
    replica.releases.updates.append(RuleUpdate("r", numbered(rule, replica.store.items)))
    replica.settle()
    answer = replica.answer(slate_of("u1", conditions=ItemConditions(exclude=tuple(CATALOGUE[:20]))))
    sources = {item.item_id: item.source for item in answer.items}
    assert sources.pop(nearest[-1]) == "popularity"
    assert set(sources) < set(nearest[:6])
    assert set(sources.values()) == {"index"}


def soups_of(world: RankerWorld, **settings: object) -> tuple[ReplicaProcess, list[str]]:
    """Half of the catalogue is soup; u1 had ten of them on another day, and few items are retrieved."""
    world.settings |= {"slate_size": 10, "retrieval_k": 5, "placements": EACH_CLASS, **settings}
    soups = CATALOGUE[:20]
    had = [
        Event(event_id=f"had {n}", user_id="u1", type="view", ts=1_000 * n, item_id=soups[n], session_id="then")
        for n in range(10)
    ]
    now = Event(event_id="now", user_id="u1", type="view", ts=90_000_000, item_id=CATALOGUE[30], session_id="now")
    world.rank(*had, now)
    replica = settled(world)
    describe(replica, **{item_id: {"category": ["SOUP"]} for item_id in soups})
    return replica, soups


SOUP = ItemConditions(categories=(["SOUP"],))


def test_what_a_placement_does_not_show_takes_no_room_under_conditions(world: RankerWorld) -> None:
    """The nearest soups are those that the user had, which `discover` does not show."""
    replica, soups = soups_of(world)
    shown = ids(replica.answer(slate_of("u1", limit=10, placement="discover", conditions=SOUP)))
    assert set(shown) == set(soups[10:])
    again = replica.answer(slate_of("u1", limit=10, placement="again", conditions=SOUP))
    assert set(ids(again)) == set(soups[:10]), "a placement of what the user had is not filled up with other items"


def test_what_stands_on_another_placement_takes_no_room_under_conditions(world: RankerWorld) -> None:
    replica, soups = soups_of(world, placements=(FOR_YOU, Placement(name="others", without=("for_you",))))
    first = ids(replica.answer(slate_of("u1", limit=10, conditions=SOUP)))
    others = ids(replica.answer(slate_of("u1", limit=10, placement="others", conditions=SOUP)))
    assert len(first) == len(others) == 10
    assert set(first) | set(others) == set(soups)


def test_what_rules_hide_takes_no_room_under_conditions(world: RankerWorld) -> None:
    replica, soups = soups_of(world)
    cosine = replica.vectors(soups) @ replica.vector("u1")
    nearest = [soups[number] for number in np.argsort(-cosine)[:10]]
    rule = msgspec.convert({"rule_id": "r", "action": "hide", "items": nearest}, Rule)
    replica.releases.updates.append(RuleUpdate("r", numbered(rule, replica.store.items)))
    replica.settle()
    shown = ids(replica.answer(slate_of("u1", limit=10, conditions=SOUP)))
    assert set(shown) == set(soups) - set(nearest)


def test_rules_and_conditions_hold_together(world: RankerWorld) -> None:
    world.rank(*purchases(4))
    replica = settled(world)
    describe(replica, **{item_id: {"brand": "a"} for item_id in CATALOGUE[20:30]})
    rule = msgspec.convert({"rule_id": "r", "action": "hide", "items": [CATALOGUE[22]]}, Rule)
    replica.releases.updates.append(RuleUpdate("r", numbered(rule, replica.store.items)))
    replica.settle()
    shown = ids(replica.answer(slate_of("u1", limit=20, conditions=ItemConditions(brands=("a",)))))
    assert set(shown) == set(CATALOGUE[20:30]) - {CATALOGUE[22]}
    assert CATALOGUE[22] not in ids(replica.answer(slate_of("u1", limit=40)))
    assert CATALOGUE[22] not in ids(replica.answer(SimilarQuery(CATALOGUE[21], 40)))
