"""One user's ranking, made here by the ranker's own core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from anabranch.inspection.user_history import InspectedUser
from anabranch.ranking.event_batch import EventBatch
from anabranch.ranking.pipeline.servable import ServableRelease
from anabranch.ranking.pipeline.user_update import update_user_states
from anabranch.ranking.policy import Policy
from anabranch.ranking.reasons.explain import ExplainedRanking
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.rules.item_effects import rules_in_force
from anabranch.ranking.rules.rule_book import NumberedRule
from anabranch.ranking.user_state.layout import StateLayout
from anabranch.ranking.user_state.store import UserStates
from anabranch.ranking.vocabulary import ItemVocabulary
from anabranch.settings import Settings


@dataclass(frozen=True)
class UserRanking:
    """The ranking after a user's newest action, with a choice of rules. No place is explored."""

    settings: Settings
    live: ServableRelease
    co_visits: CoVisitRows
    item_ids: ItemVocabulary
    user: InspectedUser

    @property
    def placements(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(placement.name for placement in self.settings.placements)

    def with_rules(self, rules: Sequence[NumberedRule]) -> ExplainedRanking:
        """The ranking with these rules."""
        policy = Policy.from_settings(self.settings, self.live.manifest.policy)
        in_force = rules_in_force(rules, self.live.index, self.placements, self.settings.slate_size - 1)
        policy = replace(policy, explore_places=0, rules=in_force)
        manifest, layout = self.live.manifest, StateLayout.from_settings(self.settings)
        states = UserStates(layout, manifest.dims, manifest.state_dims, capacity=1)
        slots = states.slots(event.user_id for event in self.user.events)
        batch = EventBatch.from_events(self.user.events, slots, self.item_ids, self.user.appended_ms)
        query = update_user_states(self.live, states, batch, latest=True).snapshots
        return ExplainedRanking(self.live, self.co_visits, query, policy, layout)

    def slates(self, rules: Sequence[NumberedRule]) -> dict[str, list[str]]:
        """The slate of each placement with these rules, as item ids."""
        slates = self.with_rules(rules).slates.tolist()
        return {
            name: self.item_ids.ids(row for row in slate if row >= 0)
            for name, slate in zip(self.placements, slates, strict=True)
        }
