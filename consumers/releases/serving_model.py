"""What a process ranks with: the live release, the co-visits and the rules, in step with what the watcher reads."""

from __future__ import annotations

import gc
import logging
from collections.abc import Sequence
from dataclasses import replace

from anabranch.metrics import ServingMetrics, release_info
from anabranch.ranking.pipeline.servable import ServableRelease
from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.rules.rule_book import NumberedRule
from anabranch.ranking.types import Slots
from anabranch.rules import Rule
from anabranch.settings import Settings
from consumers.releases.index_maintenance import IndexRebuilder, RecallMonitor
from consumers.releases.serving_rules import ServingRules
from consumers.releases.updates import CoVisitUpdate, ItemVectorUpdate, RuleUpdate
from consumers.user_states.state_store import StateStore

log = logging.getLogger(__name__)

RELEASE_IS_LIVE = "is live with"
"""In the log, between the release's id and the number of its items: benchmarks and tests look for it."""


class ServingModel:
    """Changes between two batches alone, in the thread that ranks."""

    def __init__(self, settings: Settings, store: StateStore, metrics: ServingMetrics) -> None:
        self._settings = settings
        self._store = store
        self._metrics = metrics
        self.co_visits = CoVisitRows(settings.neighbours)
        self._rules = ServingRules(settings, metrics)
        self._rebuilder, self._recall = IndexRebuilder(), RecallMonitor(metrics)
        self.live: ServableRelease | None = None
        """None until the first release is live here: nothing is ranked before."""

    @property
    def required_live(self) -> ServableRelease:
        """The live release; there is one wherever anything is ranked."""
        assert self.live is not None, "nothing is ranked before a release is live"
        return self.live

    @property
    def release_id(self) -> str:
        """Its id."""
        return self.required_live.manifest.id

    @property
    def holding_rules(self) -> Sequence[NumberedRule]:
        """The rules whose time span has the moment, in the order of their ids."""
        return self._rules.holding

    @property
    def rules(self) -> list[Rule]:
        """All rules, in the order of their ids; before a release is live, perhaps not all. Any thread may ask."""
        return self._rules.rules

    @property
    def policy(self) -> Policy:
        """By which the live release ranks now: with the rules that hold."""
        return replace(self._policy_of(self.required_live), rules=self._rules.in_force)

    def policy_on_trial(self, tried: Sequence[NumberedRule]) -> Policy:
        """By which it would rank if these rules held now, too."""
        live = self.required_live
        return replace(self._policy_of(live), rules=self._rules.on_trial(tried, live.index))

    def swap(self, release: ServableRelease) -> None:
        """Rank with another release: encoder, index, list ranker and policy at once. Users are re-encoded on return."""
        manifest = release.manifest
        if self.live is None:
            gc.freeze()  # what is loaded by now stays: the collector went through it with every few batches
        self.live = replace(release, number=self._store.releases.number(manifest.id))
        self._store.users.resize_vectors(manifest.dims, manifest.state_dims)
        self._rules.on_new_index()
        self._metrics.live_release.info(release_info(manifest.id, manifest.strategy, manifest.created))
        self._metrics.releases.inc()
        log.info("release %s %s %d items", manifest.id, RELEASE_IS_LIVE, len(release.index))
        warn_of_missing_heads(release, self._policy_of(release))

    def apply(self, update: ItemVectorUpdate | CoVisitUpdate | RuleUpdate) -> None:
        """Update the index, the co-visits or the rules; vectors of any release but the live one are ignored."""
        if isinstance(update, CoVisitUpdate):
            update.apply(self.co_visits)
        elif isinstance(update, RuleUpdate):
            self._rules.apply(update)
        elif self.live is not None and update.release == self.live.manifest.id:
            update.apply(self.live.index)
            self._rules.on_changed_items(update.rows, self.live.index)

    def maintain(self, now_ms: int) -> bool:
        """Take up what is due at a moment (UTC ms): rules that start or end, a rebuilt index; or begin a rebuild.

        Returns whether other rules hold since, or the release is another one. Raises what ended a rebuild.
        """
        if self.live is None:
            return False
        self._rebuilder.poll(self.live.index)
        return self._rules.refresh(self.live.index, now_ms)

    def observe_users(self, slots: Slots) -> None:
        """The users at these distinct slots [U] were just ranked: the index is tuned to such users."""
        self._recall.observe(self.required_live.index.base, self._store.users.columns.vector, slots)

    def _policy_of(self, release: ServableRelease) -> Policy:
        return Policy.from_settings(self._settings, release.manifest.policy)


def warn_of_missing_heads(release: ServableRelease, policy: Policy) -> None:
    """Log what the policy asks for and this release cannot give: rankings go without it."""
    if policy.purchase and release.purchase is None:
        log.warning("release %s has no purchase head: rankings go without purchase probabilities", release.manifest.id)
