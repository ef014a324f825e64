"""A user's slates under a choice of rules, by the ranker's own core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from anabranch.inspection.user_history import InspectedUser
from anabranch.ranking.event_batch import EventBatch
from anabranch.ranking.pipeline.rank import rank
from anabranch.ranking.pipeline.servable import ServableRelease
from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.rules.item_effects import rules_in_force
from anabranch.ranking.rules.rule_book import NumberedRule
from anabranch.ranking.user_state.layout import StateLayout
from anabranch.ranking.user_state.store import UserStates
from anabranch.ranking.vocabulary import ItemVocabulary
from anabranch.settings import Settings


@dataclass(frozen=True)
class RulePreview:
    """What rankings are made of, for a look at one user's."""

    settings: Settings
    live: ServableRelease
    co_visits: CoVisitRows
    item_ids: ItemVocabulary

    def slates(self, user: InspectedUser, rules: Sequence[NumberedRule]) -> dict[str, list[str]]:
        """The slate of each placement after the user's newest event, as item ids. No place is explored."""
        policy = Policy.from_settings(self.settings, self.live.manifest.policy)
        names, last = policy.placement_names, self.settings.slate_size - 1
        in_force = rules_in_force(rules, self.live.index, names, last)
        policy = replace(policy, latest=True, explore_places=0, rules=in_force)
        manifest, layout = self.live.manifest, StateLayout.from_settings(self.settings)
        states = UserStates(layout, manifest.dims, manifest.state_dims, capacity=1)
        slots = states.slots(event.user_id for event in user.events)
        batch = EventBatch.from_events(user.events, slots, self.item_ids, user.appended_ms)
        result = rank(self.live, self.co_visits, states, batch, policy)
        newest = int(np.flatnonzero(result.ranked)[-1])
        slates = result.slates[newest].tolist()
        return {
            name: self.item_ids.ids(row for row in slate if row >= 0) for name, slate in zip(names, slates, strict=True)
        }
