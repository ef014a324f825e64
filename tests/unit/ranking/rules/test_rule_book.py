"""Which rules hold, and in which order."""

from __future__ import annotations

from anabranch.ranking.rules.rule_book import NumberedRule, RuleBook, numbered, with_tried
from anabranch.ranking.vocabulary import ItemVocabulary
from anabranch.rules import Rule


def pin(rule_id: str, item_id: str) -> NumberedRule:
    return numbered(Rule(rule_id=rule_id, action="pin", position=1, items=[item_id]), ItemVocabulary())


def test_a_tried_rule_stands_where_it_will_once_it_is_put() -> None:
    """Of two pins at the same place, the one that comes first has it."""
    holding, tried = pin("b", "i1"), pin("a", "i2")
    book = RuleBook([holding])
    on_trial = with_tried(book.holding(0), [tried])
    book.put(tried)
    assert on_trial == book.holding(0)


def test_a_tried_rule_is_in_place_of_the_one_with_its_id() -> None:
    other, before, after = pin("a", "i1"), pin("b", "i2"), pin("b", "i3")
    assert with_tried([other, before], [after]) == [other, after]
