"""Which rules are about an item."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from anabranch.ranking.retrieval.item_index import ItemIndex
from anabranch.ranking.rules.item_effects import chosen
from anabranch.ranking.rules.rule_book import NumberedRule
from anabranch.rules import Rule


def rules_about(item: int, placement: str, rules: Sequence[NumberedRule], index: ItemIndex) -> Iterator[Rule]:
    """Those of the `rules` that hold on a placement and choose the item of a row, in their order."""
    row = np.array([item], np.int32)
    for entry in rules:
        if entry.rule.holds_on(placement) and chosen(entry, row, index.attributes(row))[0]:
            yield entry.rule
