"""Rules in a ranker: from when and until when they hold, and for which items."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import msgspec
import pytest

from anabranch.messages import Item, Rule
from anabranch.ranking.retrieval.item_attributes import ItemAttributes
from anabranch.ranking.rules.rule_book import numbered
from consumers.releases.updates import RuleUpdate
from tests.support.ranker_world import CATALOGUE, RankerWorld, purchases
from tests.unit.consumers.ranker.test_items import vector_of

NEW_ITEM = "in no catalogue yet"


class RuledShop:
    """A ranker, and the slate of one user after each further event about the same item."""

    def __init__(self, world: RankerWorld) -> None:
        self.world, self.numbers = world, count()
        self.process = world.process(allow_session_repeats=True)
        self.process.settle()

    def put(self, **fields: object) -> None:
        rule = msgspec.convert({"rule_id": "r", "action": "hide", **fields}, Rule)
        update = RuleUpdate(rule.rule_id, numbered(rule, self.process.store.items))
        self.process.releases.updates.append(update)

    def remove(self) -> None:
        self.process.releases.updates.append(RuleUpdate("r", None))

    def slate(self) -> list[str]:
        number = next(self.numbers)
        (event,) = purchases(1, 1, number)
        self.world.send(msgspec.structs.replace(event, item_id=CATALOGUE[0]))
        self.process.settle()
        return self.world.slates()[event.event_id]

    def holding(self, action: str) -> float | None:
        return self.process.metric("rules", action=action)


@pytest.fixture
def shop(world: RankerWorld) -> RuledShop:
    return RuledShop(world)


def test_a_rule_holds_for_the_rankings_after_it_until_it_is_removed(shop: RuledShop) -> None:
    first = shop.slate()[0]
    shop.put(items=[first])
    assert first not in shop.slate()
    assert shop.holding("hide") == 1
    shop.remove()
    assert first in shop.slate()
    assert shop.holding("hide") == 0


def test_a_rule_starts_and_ends_by_the_clock(shop: RuledShop) -> None:
    first, now = shop.slate()[0], int(1000 * shop.world.clock.clock().wall())
    shop.put(items=[first], starts=now + 100_000, ends=now + 200_000)
    assert first in shop.slate()
    shop.world.clock.advance(100)
    assert first not in shop.slate()
    shop.world.clock.advance(100)
    assert first in shop.slate()


def test_a_rule_holds_for_an_item_that_the_catalogue_gets_later(shop: RuledShop) -> None:
    shop.put(action="pin", items=[NEW_ITEM], position=1)
    assert NEW_ITEM not in shop.slate()
    shop.process.releases.updates.append(vector_of(shop.process, NEW_ITEM))
    assert shop.slate()[0] == NEW_ITEM


def test_a_rule_about_a_brand_holds_for_an_item_that_gets_it_later(shop: RuledShop) -> None:
    shop.put(brands=["Ladle"])
    first = shop.slate()[0]
    branded = replace(
        vector_of(shop.process, first), attributes=ItemAttributes.of([Item(item_id=first, title="", brand="Ladle")])
    )
    shop.process.releases.updates.append(branded)
    assert first not in shop.slate()


def test_a_rule_holds_for_the_items_of_the_next_release(shop: RuledShop) -> None:
    first = shop.slate()[0]
    shop.put(action="boost", factor=1000, items=[CATALOGUE[30]])
    assert shop.slate()[0] == CATALOGUE[30] != first
    shop.process.go_live("r2")
    assert shop.slate()[0] == CATALOGUE[30]
