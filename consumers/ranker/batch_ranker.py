"""What ranks one batch of events, and changes the user states that they are about."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from anabranch.metrics import RankerMetrics, Stopwatch
from anabranch.ranking.event_batch import EventBatch
from anabranch.ranking.pipeline import rank
from anabranch.ranking.pipeline.rank import RankingResult
from anabranch.settings import Settings
from consumers.ranker.checkpoint import FirstEvent, OffsetRange
from consumers.ranker.pending_transaction import BatchUndo
from consumers.releases.serving_model import ServingModel
from consumers.runtime.compute_threads import use_one_thread_per_call
from consumers.runtime.decoding import DecodedEvent
from consumers.user_states.changelog import Changelog
from consumers.user_states.state_store import StateStore

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
        self._store = store
        self._changelog = changelog
        self.model = ServingModel(settings, store, metrics)

    def rank(self, events: Sequence[DecodedEvent], end_offsets: Mapping[int, int], stopwatch: Stopwatch) -> RankedBatch:
        """Rank a batch, which may be empty, and move the states of its users.

        `end_offsets` end the records of each partition, those that are no events among them.
        """
        live = self.model.required_live
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
        co_visits, policy = self.model.co_visits, self.model.policy
        result = rank.rank(live, co_visits, users, batch, policy, stopwatch.start_timer, self._pool.map)
        users.columns.next_offset[slots] = [event.offset + 1 for event in events]
        users.touch(distinct_slots)
        self.model.observe_users(distinct_slots)
        ranges = offset_ranges(events, slots.tolist(), result.duplicate.tolist(), end_offsets)
        return RankedBatch(result, undo, ranges)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def _load_evicted(self, events: Sequence[DecodedEvent]) -> None:
        user_ids: dict[int, list[str]] = {}
        for event in events:
            user_ids.setdefault(event.partition, []).append(event.event.user_id)
        for partition, ids in user_ids.items():
            self._changelog.load_evicted(ids, partition)


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
