"""Which items a rule is about, and what rules do to the items of an index."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest

from anabranch.messages import Item, Rule
from anabranch.ranking.retrieval.item_attributes import ItemAttributes
from anabranch.ranking.retrieval.item_index import ItemIndex
from anabranch.ranking.rules.item_effects import BURIED, after_change, chosen, rules_in_force
from anabranch.ranking.rules.rule_book import NumberedRule, RuleBook, numbered
from anabranch.ranking.rules_in_force import RulesInForce
from anabranch.ranking.vocabulary import ItemVocabulary

ITEMS = [
    Item(item_id="tomato", title="", category=["food", "soup"], brand="Ladle", price=2.0, domain="grocer"),
    Item(item_id="pea", title="", category=["food", "soup", "green"], brand="Pot", price=3.0, domain="grocer"),
    Item(item_id="bread", title="", category=["food", "bread"], brand="Pot", price=5.0),
    Item(item_id="paint", title="", category=["food soup"], domain="hardware"),
]
PLACEMENTS = ("for_you", "discover")


class Catalogue:
    """An index of items, and their ids."""

    def __init__(self, items: Sequence[Item] = ITEMS) -> None:
        self.item_ids, self.index = ItemVocabulary(), ItemIndex(2)
        self.put(items)

    def put(self, items: Sequence[Item]) -> None:
        rows = self.item_ids.rows(item.item_id for item in items)
        vectors, available = np.ones((len(items), 2), np.float32), np.ones(len(items), np.bool_)
        self.index.upsert(rows, vectors, available, attributes=ItemAttributes.of(items))

    def rule(self, **fields: object) -> NumberedRule:
        rule = msgspec.convert({"rule_id": "r", "action": "hide", **fields}, Rule)
        return numbered(rule, self.item_ids)

    def chosen(self, **fields: object) -> list[str]:
        rows = np.arange(len(self.item_ids), dtype=np.int32)
        items = chosen(self.rule(**fields), rows, self.index.attributes(rows))
        return self.item_ids.ids(np.flatnonzero(items).tolist())

    def in_force(self, *rules: NumberedRule) -> RulesInForce:
        return rules_in_force(rules, self.index, PLACEMENTS, last_position=9)

    def row(self, item_id: str) -> int:
        return self.item_ids.row(item_id)


@pytest.mark.parametrize(
    ("conditions", "items"),
    [
        ({"items": ["pea", "bread"]}, ["pea", "bread"]),
        ({"brands": ["Ladle"]}, ["tomato"]),
        ({"brands": ["Ladle", "Pot"]}, ["tomato", "pea", "bread"]),
        ({"domains": ["hardware"]}, ["paint"]),
        ({"categories": [["food", "soup"]]}, ["tomato", "pea"]),
        ({"categories": [["food"]]}, ["tomato", "pea", "bread"]),
        ({"categories": [["soup"]]}, []),
        ({"price_from": 3}, ["pea", "bread"]),
        ({"price_below": 3}, ["tomato"]),
        ({"price_from": 3, "price_below": 5}, ["pea"]),
        ({"brands": ["Pot"], "categories": [["food", "soup"]]}, ["pea"]),
        ({"items": ["tomato", "pea"], "brands": ["Pot"]}, ["pea"]),
    ],
)
def test_a_rule_is_about_the_items_that_meet_all_of_its_conditions(
    conditions: dict[str, object], items: list[str]
) -> None:
    assert Catalogue().chosen(**conditions) == items


def test_an_item_is_hidden_on_the_placements_of_the_rule_alone() -> None:
    catalogue = Catalogue()
    rules = catalogue.in_force(catalogue.rule(items=["pea"], placements=["discover"]))
    assert rules.effects.hidden[:, catalogue.row("pea")].tolist() == [False, True]
    assert not rules.hidden_everywhere.any(), "it is a candidate for the other placement"


def test_boosts_multiply_and_what_is_buried_has_the_lowest_score() -> None:
    catalogue = Catalogue()
    rules = catalogue.in_force(
        catalogue.rule(action="boost", factor=2, brands=["Pot"]),
        catalogue.rule(action="boost", factor=3, items=["pea"]),
        catalogue.rule(action="bury", items=["paint"]),
    )
    added = rules.effects.added[0, [catalogue.row(item.item_id) for item in ITEMS]]
    np.testing.assert_allclose(added, [0, np.log(6), np.log(2), BURIED], rtol=1e-6)


def test_items_that_come_or_change_later_get_what_the_rules_say_of_them() -> None:
    catalogue = Catalogue()
    rules = [catalogue.rule(brands=["Pot"]), catalogue.rule(action="boost", factor=2, categories=[["new"]])]
    in_force = catalogue.in_force(*rules)
    many = [Item(item_id=f"new {n}", title="", category=["new", str(n)]) for n in range(2_000)]
    changed = [*many, msgspec.structs.replace(ITEMS[0], brand="Pot"), msgspec.structs.replace(ITEMS[1], brand=None)]
    catalogue.put(changed)
    rows = catalogue.item_ids.rows(item.item_id for item in changed)
    in_force = after_change(in_force, rows, catalogue.index, rules, PLACEMENTS)
    anew = catalogue.in_force(*rules)
    np.testing.assert_array_equal(in_force.effects.added, anew.effects.added)
    np.testing.assert_array_equal(in_force.effects.hidden, anew.effects.hidden)
    assert np.flatnonzero(in_force.hidden_everywhere).tolist() == [catalogue.row("tomato"), catalogue.row("bread")]
    assert in_force.hidden_share == anew.hidden_share == 2 / 2_004


def test_a_rule_may_name_an_item_before_the_catalogue_has_it() -> None:
    catalogue = Catalogue()
    rule = catalogue.rule(items=["late"])
    in_force = catalogue.in_force(rule)
    catalogue.put([Item(item_id="late", title="")])
    in_force = after_change(in_force, np.array([catalogue.row("late")], np.int32), catalogue.index, [rule], PLACEMENTS)
    assert in_force.hidden_everywhere[catalogue.row("late")]


def test_pins_stand_by_position_and_those_of_one_position_by_rule() -> None:
    catalogue = Catalogue()
    book = RuleBook(
        numbered(Rule(rule_id=rule_id, action="pin", items=items, position=position), catalogue.item_ids)
        for rule_id, items, position in [("b", ["pea", "bread"], 2), ("a", ["paint"], 2), ("c", ["tomato"], 99)]
    )
    pins = catalogue.in_force(*book.holding(0)).pins[0]
    assert catalogue.item_ids.ids(pins.item.tolist()) == ["paint", "pea", "bread", "tomato"]
    assert pins.position.tolist() == [1, 1, 2, 9], "positions count from 0, and the last one is 9"


def test_the_newest_version_of_a_rule_holds_until_it_is_removed() -> None:
    catalogue, book = Catalogue(), RuleBook()
    book.put(catalogue.rule(brands=["Ladle"]))
    book.put(catalogue.rule(brands=["Pot"]))
    assert [entry.rule.brands for entry in book.holding(0)] == [["Pot"]]
    book.remove("r")
    book.remove("r")
    assert book.holding(0) == []


def test_a_book_says_when_the_next_time_span_starts_or_ends() -> None:
    catalogue = Catalogue()
    book = RuleBook([catalogue.rule(rule_id="a", brands=["Pot"], starts=10, ends=30)])
    book.put(catalogue.rule(rule_id="b", brands=["Pot"], ends=20))
    assert [book.next_change_ms(moment) for moment in (0, 10, 20, 30)] == [10, 20, 30, None]
    assert [len(book.holding(moment)) for moment in (0, 10, 20, 30)] == [1, 2, 1, 0]
