"""The rules that hold as columns over the items of an index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from anabranch.ranking.retrieval.item_attributes import ItemAttributes, with_attributes
from anabranch.ranking.retrieval.item_index import ItemIndex
from anabranch.ranking.rules.rule_book import NumberedRule
from anabranch.ranking.rules_in_force import NO_EFFECTS, ItemEffects, Pins, RulesInForce
from anabranch.ranking.types import Mask, Rows
from anabranch.rules import Rule

BURIED = np.float32(-1000.0)
"""Added to the score of a buried item, which then is lower than any other's."""


def rules_in_force(
    rules: Sequence[NumberedRule], index: ItemIndex, placements: Sequence[str], last_position: int
) -> RulesInForce:
    """What rules do to the items of an index. Pins beyond `last_position`, from 0, stand there."""
    rows = np.arange(len(index.columns.known), dtype=np.int32)
    scoring = _scoring(rules)
    effects = item_effects(scoring, rows, index.all_attributes, placements) if scoring else NO_EFFECTS
    return _with_effects(effects, index, dict(_pins(rules, placements, last_position)))


def after_change(
    before: RulesInForce, rows: Rows, index: ItemIndex, rules: Sequence[NumberedRule], placements: Sequence[str]
) -> RulesInForce:
    """The same `rules` after items of the index changed, which may have grown. `before` is of no use afterwards."""
    effects = before.effects
    if not len(effects.added):
        return before
    grown = len(index.columns.known) - effects.added.shape[1]
    if grown:
        more = ((0, 0), (0, grown))
        effects = ItemEffects(np.pad(effects.added, more), np.pad(effects.hidden, more))
    new = item_effects(_scoring(rules), rows, index.attributes(rows), placements)
    effects.added[:, rows], effects.hidden[:, rows] = new
    return _with_effects(effects, index, before.pins)


def item_effects(
    rules: Sequence[NumberedRule], rows: Rows, attributes: ItemAttributes, placements: Sequence[str]
) -> ItemEffects:
    """What rules that pin nothing do to the items of rows [n], of these attributes."""
    shape = (len(placements), len(rows))
    effects = ItemEffects(np.zeros(shape, np.float32), np.zeros(shape, np.bool_))
    for entry in rules:
        items = chosen(entry, rows, attributes)
        for number in (number for number, name in enumerate(placements) if entry.rule.holds_on(name)):
            if entry.rule.action == "hide":
                effects.hidden[number] |= items
            else:
                effects.added[number, items] += _added(entry.rule)
    return effects


def chosen(entry: NumberedRule, rows: Rows, attributes: ItemAttributes) -> Mask:
    """[n] which items of rows [n] meet all conditions of a rule."""
    items = with_attributes(entry.rule, attributes)
    return items & np.isin(rows, entry.rows) if entry.rule.items else items


def _added(rule: Rule) -> np.float32:
    """What a rule adds to a score. Scores are log odds but for a constant, so that log f makes f times as likely."""
    return BURIED if rule.factor is None else np.float32(np.log(rule.factor))


def _pins(rules: Sequence[NumberedRule], placements: Sequence[str], last_position: int) -> Iterator[tuple[int, Pins]]:
    """The pins of each placement that has any, by its number."""
    for number, name in enumerate(placements):
        pins = [
            (min(entry.rule.position - 1 + place, last_position), row)
            for entry in rules
            if entry.rule.position is not None and entry.rule.holds_on(name)
            for place, row in enumerate(entry.rows.tolist())
        ]
        if pins:
            positions, items = zip(*sorted(pins, key=lambda pin: pin[0]), strict=True)
            yield number, Pins(np.array(items, np.int32), np.array(positions, np.int32))


def _scoring(rules: Sequence[NumberedRule]) -> list[NumberedRule]:
    return [entry for entry in rules if entry.rule.action != "pin"]


def _with_effects(effects: ItemEffects, index: ItemIndex, pins: Mapping[int, Pins]) -> RulesInForce:
    if not effects.hidden.any():
        return RulesInForce(effects, pins)
    everywhere: Mask = np.logical_and.reduce(effects.hidden)
    servable = index.columns.servable
    share = int((everywhere & servable).sum()) / max(1, int(servable.sum()))
    return RulesInForce(effects, pins, everywhere, share)
