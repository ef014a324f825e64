"""The gate's window: the newest events, which no model learned, ranked by a release candidate and what it is compared
with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from anabranch.messages import Item, Neighbours
from anabranch.ranking.pipeline.feedback import NO_SLATE
from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.vocabulary import ItemVocabulary
from anabranch.release import Release
from anabranch.settings import Settings
from models.co_visit.model import CoVisitModel
from models.data.event_log import DAY_MS, NONE, EventLog
from models.evaluation.contenders import Contenders, PairedRanks, evaluate_contenders
from models.evaluation.paired_differences import K
from models.metrics.bootstrap import Interval, NonInferiorityMargin, resample_means
from models.metrics.ranking import discounted_gains
from models.offline.catalogue_history import CatalogueHistory
from models.offline.offline_ranker import (
    OfflineRanker,
    cached_text_vectors,
    load_servable,
    neighbour_table,
    published_table,
    rank_events,
)
from models.pipeline.baselines import other_baselines
from models.pipeline.config import ReleaseCandidateConfig
from models.seeds.seed_model import SeedModel
from models.stages import Bar

NeighbourTable = Callable[[ItemVocabulary], CoVisitRows]
"""A co-visit table by the numbers of a ranker's items."""
TABLE_MARGIN = NonInferiorityMargin(share=0.02)
"""A new co-visit table may lower the incumbent's NDCG@20 by so much."""
MIN_TABLE_USERS = 50
"""With fewer users no table is held back: an interval over users is not reliable."""


@dataclass(frozen=True)
class ComparedWith:
    """What a release candidate is compared with, besides the incumbent and the simple baselines."""

    co_visit: CoVisitModel
    """Trained on the events before the window."""
    table: NeighbourTable
    """What all releases read."""
    seed_models: Sequence[SeedModel] = ()
    """Those that the candidate learned from, fitted."""
    earlier: Sequence[Release] = ()
    """Releases that served before the incumbent."""
    propensity: NDArray[np.float64] | None = None
    """[N] see `PairedRanks`, of all events."""


@dataclass(frozen=True)
class GateWindow:
    """All events, of which those from row `start` on are ranked, and how releases are driven over them."""

    settings: Settings
    log: EventLog
    """Item numbers are rows of `items`, then of items that left the catalogue."""
    start: int
    items: Sequence[Item]
    config: ReleaseCandidateConfig
    incumbent: Release | None
    bar: Bar
    catalogue: CatalogueHistory = field(default_factory=CatalogueHistory)

    def rank(self, candidate: Release, compared: ComparedWith) -> PairedRanks:
        """Rank the window with the release candidate and everything that it is compared with.

        The co-visit model is trained on the window too, event by event. All releases read the same co-visit table, as
        they would where they serve. The incumbent has served since the end of its own gate's window, so the states of
        its users go on from there; the other releases encode users from their histories, as they will when they begin
        to serve.
        """
        table = compared.table
        contenders = Contenders(
            release_candidate=self._ranker(candidate, table),
            incumbent=None if self.incumbent is None else self._as_it_serves(self.incumbent, table),
            co_visit=compared.co_visit,
            baselines=other_baselines(self.config),
            seed_models=compared.seed_models,
            earlier={earlier.manifest.id: partial(self._ranker, earlier, table) for earlier in compared.earlier},
        )
        domains = [item.domain for item in self.items]
        with self.bar("Rank the gate's window", contenders.passes * len(self.log)) as advance:
            return evaluate_contenders(contenders, self.log, self.start, domains, advance, compared.propensity)

    def harm_of(self, co_visit: CoVisitModel, published: Mapping[str, Neighbours]) -> Interval | None:
        """What a new co-visit table does to the incumbent, if that is significantly worse with it; else None.

        NDCG@20 with the new table minus NDCG@20 with the published one; neither may have learned an event from `start`
        on. The whole interval, over users and days, has to lie below minus `TABLE_MARGIN`.
        """
        if self.incumbent is None or not published:
            return None
        tables = (self.fitted(co_visit), self.published(published))
        with self.bar("Try the co-visit table", 2 * len(self.log)) as advance:
            new, old = (
                rank_events(self._as_it_serves(self.incumbent, table), self.log, self.start, advance).rank
                for table in tables
            )
        compared = (old != NO_SLATE) & (self.log.item[self.start :] != NONE)
        rows = self.start + np.flatnonzero(compared)
        user, day = self.log.user[rows], self.log.ts[rows] // DAY_MS
        if len(np.unique(user)) < MIN_TABLE_USERS:
            return None
        gains = np.stack([discounted_gains(ranks[compared], K) for ranks in (new, old)])
        change = resample_means(gains, user, day).difference(0, 1)
        interval = change.interval()
        return interval if interval.high < TABLE_MARGIN.lowest_difference(change.theirs) else None

    def fitted(self, co_visit: CoVisitModel) -> NeighbourTable:
        """The table of a co-visit model."""
        table = co_visit.table(self.config.policy.neighbours)
        return lambda item_ids: neighbour_table(table, item_ids, self.log, self.config.policy.neighbours)

    def published(self, messages: Mapping[str, Neighbours]) -> NeighbourTable:
        """The table that rankers read now."""
        return lambda item_ids: published_table(messages.values(), item_ids, self.config.policy.neighbours)

    def _as_it_serves(self, incumbent: Release, table: NeighbourTable) -> OfflineRanker:
        return self._ranker(incumbent, table, incumbent.manifest.window.gate_to)

    def _ranker(self, files: Release, table: NeighbourTable, served_from_ms: int | None = None) -> OfflineRanker:
        """A release as it would serve; `served_from_ms`: see `OfflineRanker`."""
        item_ids = ItemVocabulary()
        live = load_servable(files, item_ids, self.items, self.settings.data_dir)
        policy = Policy.from_settings(self.settings, files.manifest.policy)
        text_vectors = cached_text_vectors(files, self.catalogue.texts, self.settings.data_dir)
        changes = self.catalogue.encoded(live, item_ids, text_vectors)
        return OfflineRanker(live, table(item_ids), item_ids, policy, self.config.layout, served_from_ms, changes)
