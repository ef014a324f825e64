"""The newest version of every rule, and which of them hold at a moment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from anabranch.ranking.types import Rows
from anabranch.ranking.vocabulary import ItemVocabulary
from anabranch.rules import Rule


class NumberedRule(NamedTuple):
    """A rule, and the rows of the items that it names."""

    rule: Rule
    rows: Rows
    """[n] without items whose ids collide with others'"""


def numbered(rule: Rule, item_ids: ItemVocabulary) -> NumberedRule:
    """Give the items of a rule rows, if they have none: they may come to the catalogue later."""
    accepted = [item_id for item_id in rule.items if item_ids.accepts(item_id)]
    return NumberedRule(rule, item_ids.rows(accepted))


def numbered_if_known(rule: Rule, item_ids: ItemVocabulary) -> NumberedRule:
    """The rule with the rows that its items have: to try it, without items being added."""
    rows = item_ids.find(rule.items)
    return NumberedRule(rule, rows[rows >= 0])


def with_tried(holding: Sequence[NumberedRule], tried: Sequence[NumberedRule]) -> list[NumberedRule]:
    """The rules that hold, and those that are tried as if they held, each in place of one with its id; in the order of
    the ids, by which `holding` has them too: of pins at the same place, the first comes first."""
    by_id = {entry.rule.rule_id: entry for entry in (*holding, *tried)}
    return [entry for _, entry in sorted(by_id.items())]


class RuleBook:
    """Rules by their ids."""

    def __init__(self, rules: Iterable[NumberedRule] = ()) -> None:
        self._rules = {entry.rule.rule_id: entry for entry in rules}

    def put(self, entry: NumberedRule) -> None:
        """Add a rule, in place of one with its id."""
        self._rules[entry.rule.rule_id] = entry

    def remove(self, rule_id: str) -> None:
        """Remove a rule, if there is one with this id."""
        self._rules.pop(rule_id, None)

    @property
    def rules(self) -> list[Rule]:
        """All of them, in the order of their ids. Any thread may ask."""
        return [entry.rule for _, entry in sorted(list(self._rules.items()))]

    def holding(self, now_ms: int) -> list[NumberedRule]:
        """The rules whose time span has the moment (UTC ms), in the order of their ids."""
        return [entry for _, entry in sorted(self._rules.items()) if entry.rule.holds_at(now_ms)]

    def next_change_ms(self, now_ms: int) -> int | None:
        """When the next time span starts or ends, UTC ms; None: none does."""
        moments = [moment for entry in self._rules.values() for moment in (entry.rule.starts, entry.rule.ends)]
        return min((moment for moment in moments if moment is not None and moment > now_ms), default=None)
