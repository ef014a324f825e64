"""The rules that a ranker applies, kept in step with topic `rules`, the clock and the items of the index."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from anabranch.metrics import ServingMetrics
from anabranch.ranking.retrieval.item_index import ItemIndex
from anabranch.ranking.rules.item_effects import after_change, rules_in_force
from anabranch.ranking.rules.rule_book import NumberedRule, RuleBook, with_tried
from anabranch.ranking.rules_in_force import NO_RULES, RulesInForce
from anabranch.ranking.types import Rows
from anabranch.rules import Rule
from anabranch.settings import Settings
from consumers.releases.updates import RuleUpdate

log = logging.getLogger(__name__)


class ServingRules:
    """What rules do to the items of the live index."""

    def __init__(self, settings: Settings, metrics: ServingMetrics) -> None:
        self._placements = tuple(placement.name for placement in settings.placements)
        self._last_position = settings.slate_size - settings.explore_places - 1
        self._metrics = metrics
        self._book = RuleBook()
        self.holding: list[NumberedRule] = []
        """Those whose time span has the moment of the last `refresh`, in the order of their ids."""
        self._next_change_ms: int | None = None
        self._is_stale = False
        self.in_force: RulesInForce = NO_RULES
        """As of the last `refresh`."""

    @property
    def rules(self) -> list[Rule]:
        """All of them, whether they hold or not, in the order of their ids. Any thread may ask."""
        return self._book.rules

    def on_trial(self, tried: Sequence[NumberedRule], index: ItemIndex) -> RulesInForce:
        """What would be in force if these rules held now, too. Nothing changes."""
        return rules_in_force(with_tried(self.holding, tried), index, self._placements, self._last_position)

    def apply(self, update: RuleUpdate) -> None:
        """Add or remove a rule. It holds from the next `refresh` on."""
        update.apply(self._book)
        self._is_stale = True

    def on_new_index(self) -> None:
        """The live index is another one: what rules do is made anew at the next `refresh`."""
        self._is_stale = True

    def on_changed_items(self, rows: Rows, index: ItemIndex) -> None:
        """Items of the live index changed."""
        if not self._is_stale:
            self.in_force = after_change(self.in_force, rows, index, self.holding, self._placements)

    def refresh(self, index: ItemIndex, now_ms: int) -> bool:
        """Take up what changed, and the time spans that started or ended by the moment (UTC ms); whether there was
        anything, be it another index."""
        if not self._is_stale and (self._next_change_ms is None or now_ms < self._next_change_ms):
            return False
        had, self.holding = self.holding, self._book.holding(now_ms)
        self._next_change_ms = self._book.next_change_ms(now_ms)
        self.in_force = rules_in_force(self.holding, index, self._placements, self._last_position)
        self._is_stale = False
        self._metrics.show_rules(entry.rule.action for entry in self.holding)
        if [entry.rule for entry in had] != [entry.rule for entry in self.holding]:
            log.info("%d rules hold", len(self.holding))
        return True
