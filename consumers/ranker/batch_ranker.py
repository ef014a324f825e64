"""What ranks one batch of events: the live release, its index and co-visits, and the user states they change."""

from __future__ import annotations

import gc
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from threadpoolctl import threadpool_limits

from anabranch.metrics import RankerMetrics, Stopwatch, release_info
from anabranch.ranking.event_batch import EventBatch
from anabranch.ranking.pipeline import rank
from anabranch.ranking.pipeline.rank import RankingResult
from anabranch.ranking.pipeline.servable import ServableRelease
from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.settings import Settings
from consumers.ranker.changelog import Changelog
from consumers.ranker.checkpoint import FirstEvent, OffsetRange
from consumers.ranker.log_messages import RELEASE_IS_LIVE
from consumers.ranker.pending_transaction import BatchUndo
from consumers.ranker.serving_rules import ServingRules
from consumers.ranker.state_store import StateStore
from consumers.releases.index_maintenance import IndexRebuilder, RecallMonitor
from consumers.releases.updates import CoVisitUpdate, ItemVectorUpdate, RuleUpdate
from consumers.runtime.decoding import DecodedEvent

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RankedBatch:
    """A batch that was ranked and is yet to be published."""

    result: RankingResult | None
    """None: of its records none is an event."""
    undo: BatchUndo | None
    ranges: Mapping[int, OffsetRange]
    """The records of each partition."""


class BatchRanker:
    """Calls the pure core with the live release; everything about Kafka stays outside."""

    def __init__(self, settings: Settings, store: StateStore, changelog: Changelog, metrics: RankerMetrics) -> None:
        use_one_thread_per_call()
        self._pool = ThreadPoolExecutor(settings.threads, "rank", initializer=use_one_thread_per_call)
        self._settings = settings
        self._store = store
        self._changelog = changelog
        self._metrics = metrics
        self.co_visits = CoVisitRows(settings.neighbours)
        self._rules = ServingRules(settings, metrics)
        self._rebuilder, self._recall = IndexRebuilder(), RecallMonitor(metrics)
        self.live: ServableRelease | None = None
        """None until the first release is live here: nothing is ranked before."""

    @property
    def live_release_id(self) -> str:
        """The id of the live release; there is one wherever events are ranked."""
        assert self.live is not None, "no partition is resumed before a release is live"
        return self.live.manifest.id

    def rank(self, events: Sequence[DecodedEvent], end_offsets: Mapping[int, int], stopwatch: Stopwatch) -> RankedBatch:
        """Rank a batch, which may be empty, and move the states of its users.

        `end_offsets` end the records of each partition, those that are no events among them.
        """
        assert self.live is not None, "no partition is resumed before a release is live"
        if not events:
            return RankedBatch(None, None, offset_ranges([], [], [], end_offsets))
        users = self._store.users
        self._load_evicted(events)
        slots = users.slots([event.event.user_id for event in events], [event.partition for event in events])
        distinct_slots = np.unique(slots)
        undo = BatchUndo(distinct_slots, users.snapshot(distinct_slots))
        batch = EventBatch.from_events(
            [event.event for event in events],
            slots,
            self._store.items,
            [event.appended_ms for event in events],
            users.layout.keeps_shown,
        )
        policy = replace(self._policy_of(self.live), rules=self._rules.in_force)
        result = rank.rank(self.live, self.co_visits, users, batch, policy, stopwatch.start_timer, self._pool.map)
        users.columns.next_offset[slots] = [event.offset + 1 for event in events]
        users.touch(distinct_slots)
        self._recall.observe(self.live.index.base, users.columns.vector, distinct_slots)
        ranges = offset_ranges(events, slots.tolist(), result.duplicate.tolist(), end_offsets)
        return RankedBatch(result, undo, ranges)

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
        self._metrics.prequential_events.labels(manifest.id)  # from 0 on
        self._metrics.prequential_hits.labels(manifest.id)
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

    def maintain(self, now_ms: int) -> None:
        """Take up what is due at a moment (UTC ms): rules that start or end, a rebuilt index; or begin a rebuild.

        Raises what ended a rebuild.
        """
        if self.live is not None:
            self._rebuilder.poll(self.live.index)
            self._rules.refresh(self.live.index, now_ms)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def _policy_of(self, release: ServableRelease) -> Policy:
        return Policy.from_settings(self._settings, release.manifest.policy)

    def _load_evicted(self, events: Sequence[DecodedEvent]) -> None:
        user_ids: dict[int, list[str]] = {}
        for event in events:
            user_ids.setdefault(event.partition, []).append(event.event.user_id)
        for partition, ids in user_ids.items():
            self._changelog.load_evicted(ids, partition)


def use_one_thread_per_call() -> None:
    """FAISS and NumPy would spread each call over all cores; parts of a batch are ranked in parallel instead."""
    threadpool_limits(1)


def warn_of_missing_heads(release: ServableRelease, policy: Policy) -> None:
    """Log what the policy asks for and this release cannot give: rankings go without it."""
    if policy.purchase and release.purchase is None:
        log.warning("release %s has no purchase head: rankings go without purchase probabilities", release.manifest.id)


def offset_ranges(
    events: Sequence[DecodedEvent], slots: Sequence[int], duplicate: Sequence[bool], end_offsets: Mapping[int, int]
) -> dict[int, OffsetRange]:
    """The range of each partition: from its first event, with the first event that changed each user's slot."""
    starts: dict[int, int] = {}
    first_events: dict[int, dict[int, FirstEvent]] = {partition: {} for partition in end_offsets}
    for event, slot, is_duplicate in zip(events, slots, duplicate, strict=True):
        starts.setdefault(event.partition, event.offset)
        by_slot = first_events[event.partition]
        if not is_duplicate and slot not in by_slot:
            by_slot[slot] = FirstEvent(event.offset, event.event.user_id)
    return {
        partition: OffsetRange(starts.get(partition, end), end, first_events[partition])
        for partition, end in end_offsets.items()
    }
