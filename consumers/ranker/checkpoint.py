"""Checkpoints: which user states the next transaction saves, and the marker that says how far they go.

A user state is the result of its user's events, so it need not be saved with each of them. It is saved once it has been
ahead of its saved form for `checkpoint_ms`, the oldest first, and at most `MAX_STATES` in a transaction, which spreads
the work; and each saved state says which events it holds. The marker of a partition is the offset before which no event
is missing from its user's saved state.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from anabranch.kafka import topics
from anabranch.kafka.records import UNKNOWN_OFFSET, OutboundRecord
from anabranch.kafka.topics import Topics
from anabranch.messages import STATE_MARKER_KEY, Epoch, StateMarker, encode_binary
from anabranch.ranking.user_state.codec import save
from anabranch.ranking.user_state.formats import in_format
from consumers.user_states.state_owner import StateOwner
from consumers.user_states.state_store import StateStore

MAX_STATES = 1024
"""States saved in one transaction: some 50 ms of work."""
AT_LEAST_ONCE_GAP_S = 0.2
"""With `at_least_once` only a batch with user states needs a transaction, which takes some 30 ms: it saves more states
less often."""


class DirtyUser(NamedTuple):
    """A user whose state is ahead of its saved form."""

    first_offset: int
    """The first event that the saved form lacks."""
    dirty_at: float
    """When that event was ranked, in monotonic seconds."""
    user_id: str


class FirstEvent(NamedTuple):
    """The first event of a batch that changed a user's state."""

    offset: int
    user_id: str


class OffsetRange(NamedTuple):
    """A partition's part of a batch: the events from `start` up to `end`."""

    start: int
    end: int
    first_events: Mapping[int, FirstEvent]
    """By slot; empty where no event changed a state."""

    @classmethod
    def empty(cls, offset: int) -> OffsetRange:
        """No events."""
        return cls(offset, offset, {})


@dataclass
class PartitionCheckpoint:
    """How far the log of user states lags behind memory, for one partition."""

    marker: StateMarker
    """The newest in the log."""
    next_offset: int
    """Up to here events are ranked and committed."""
    rankings_end: int
    """Rankings to come have this offset on `rankings`, or one behind it."""
    dirty: dict[int, DirtyUser] = field(default_factory=dict)
    """By slot, the lowest offset first."""
    ranking_offset_index: deque[tuple[int, int]] = field(default_factory=deque)
    """(offset of an event, the lowest offset on `rankings` that its ranking can have), ascending."""
    marker_written_at: float = 0.0
    """Monotonic seconds."""


@dataclass(frozen=True)
class CheckpointPlan:
    """One partition's part of a transaction."""

    partition: int
    saved_slots: tuple[int, ...]
    newly_dirty: Mapping[int, DirtyUser]
    """By slot: users whose saved form was complete before this batch and is not after it."""
    events: OffsetRange
    marker: StateMarker | None
    """None: the newest in the log still holds."""


Checkpoints = Mapping[int, PartitionCheckpoint]
"""By partition."""


class CheckpointCoordinator:
    """Plans what a transaction saves, and notes it after the commit; a plan that is not committed leaves no trace."""

    def __init__(
        self,
        topics: Topics,
        store: StateStore,
        interval_s: float,
        owner: StateOwner,
        state_format: int,
        gap_s: float = 0.0,
    ) -> None:
        """`gap_s`: at least so many seconds pass between two plans that save states."""
        self._topics = topics
        self._store = store
        self._interval_s = interval_s
        self._owner = owner
        self._state_format = state_format
        self._gap_s = gap_s
        self._next_save_at = 0.0

    def plan(
        self,
        checkpoints: Checkpoints,
        ranges: Mapping[int, OffsetRange],
        release: str | None,
        now: float,
        interval_s: float | None = None,
    ) -> list[CheckpointPlan]:
        """What to save along with a batch whose events are in the states already, and of partitions without events.

        `ranges` by partition, ranked by `release`; `now` in monotonic seconds; `interval_s` 0 saves all dirty states,
        now.
        """
        interval = self._interval_s if interval_s is None else interval_s
        may_save = interval_s is not None or now >= self._next_save_at
        limit = max(1, MAX_STATES // max(1, len(checkpoints))) if may_save else 0
        plans = []
        for partition, checkpoint in checkpoints.items():
            events = ranges.get(partition, OffsetRange.empty(checkpoint.next_offset))
            due_slots = _due_slots(checkpoint, now - interval, limit)
            plan = self._plan(partition, checkpoint, events, due_slots, release, now, interval)
            if partition in ranges or plan.marker is not None:
                plans.append(plan)
        if any(plan.saved_slots for plan in plans):
            self._next_save_at = now + self._gap_s
        return plans

    def records(self, checkpoints: Checkpoints, plans: Iterable[CheckpointPlan]) -> Iterator[OutboundRecord]:
        """For each plan its user states, then its marker."""
        user_state, half_life_s = self._topics.user_state, self._store.users.layout.half_life_s
        for plan in plans:
            slots = np.array(plan.saved_slots, np.int64)
            states = save(self._store.users, slots, self._store.items, self._store.releases)
            dirty = checkpoints[plan.partition].dirty
            for slot, state in zip(plan.saved_slots, states, strict=True):
                key = topics.key(dirty[slot].user_id)
                value = encode_binary(in_format(state, self._state_format, half_life_s))
                yield OutboundRecord(user_state, key, value, plan.partition)
            if plan.marker is not None:
                yield OutboundRecord(user_state, STATE_MARKER_KEY, encode_binary(plan.marker), plan.partition)

    def on_commit(
        self,
        checkpoints: Checkpoints,
        plans: Sequence[CheckpointPlan],
        record_offsets: Sequence[tuple[OutboundRecord, int]],
        now: float,
    ) -> None:
        """The transaction was committed: its records, each with its offset, `UNKNOWN_OFFSET` where not known.

        `record_offsets` is empty where the answer to the commit was lost.
        """
        state_offsets = self._state_offsets(plans, record_offsets)
        for plan in plans:
            checkpoint = checkpoints[plan.partition]
            checkpoint.ranking_offset_index.append((plan.events.start, checkpoint.rankings_end))
            checkpoint.next_offset = plan.events.end
            checkpoint.dirty |= plan.newly_dirty
            self._store.users.columns.dirty[list(plan.newly_dirty)] = True
            self._mark_saved(checkpoint, plan, state_offsets)
            if plan.marker is not None:
                checkpoint.marker, checkpoint.marker_written_at = plan.marker, now
                _prune(checkpoint.ranking_offset_index, plan.marker.offset)
        for partition, end in self._rankings_ends(record_offsets).items():
            if partition in checkpoints:
                checkpoints[partition].rankings_end = max(checkpoints[partition].rankings_end, end)

    def _plan(
        self,
        partition: int,
        checkpoint: PartitionCheckpoint,
        events: OffsetRange,
        due_slots: tuple[int, ...],
        release: str | None,
        now: float,
        interval_s: float,
    ) -> CheckpointPlan:
        """A parameter more than six: `due_slots` depend on the number of partitions, the rest on this one alone."""
        newly_dirty = {
            slot: DirtyUser(first.offset, now, first.user_id)
            for slot, first in events.first_events.items()
            if slot not in checkpoint.dirty
        }
        complete_to = _complete_to(checkpoint, events, len(due_slots), newly_dirty.values())
        epochs = _epochs(checkpoint.marker.epochs, complete_to, events, release if events.first_events else None)
        is_new_epoch = len(epochs) > 0 and epochs[-1] not in checkpoint.marker.epochs
        is_marker_due = complete_to > checkpoint.marker.offset and now - checkpoint.marker_written_at >= interval_s
        marker = replace(
            checkpoint.marker,
            offset=complete_to,
            rankings_offset=_rankings_offset(checkpoint, complete_to, events),
            epochs=epochs,
            group=self._owner.group,
            partitions=self._owner.partitions,
        )
        is_last = interval_s == 0.0  # which leaves a marker of these rankers, also of a partition without events
        is_foreign = not self._owner.owns(checkpoint.marker) and (is_last or events.end > events.start)
        needs_marker = bool(due_slots) or is_new_epoch or is_marker_due or is_foreign
        return CheckpointPlan(partition, due_slots, newly_dirty, events, marker if needs_marker else None)

    def _mark_saved(
        self, checkpoint: PartitionCheckpoint, plan: CheckpointPlan, state_offsets: Mapping[int, int]
    ) -> None:
        """A state whose offset is not known is saved once more: only one whose place is known can be evicted."""
        columns = self._store.users.columns
        for slot in plan.saved_slots:
            if slot in state_offsets:
                del checkpoint.dirty[slot]
                columns.saved_at[slot] = state_offsets[slot]
                columns.dirty[slot] = False

    def _state_offsets(
        self, plans: Sequence[CheckpointPlan], record_offsets: Sequence[tuple[OutboundRecord, int]]
    ) -> dict[int, int]:
        """The known offsets of saved states by slot: they were published in the order of the plans."""
        offsets = [
            offset
            for record, offset in record_offsets
            if record.topic == self._topics.user_state and record.key != STATE_MARKER_KEY
        ]
        slots = (slot for plan in plans for slot in plan.saved_slots)
        pairs = zip(slots, offsets, strict=bool(record_offsets))
        return {slot: offset for slot, offset in pairs if offset != UNKNOWN_OFFSET}

    def _rankings_ends(self, record_offsets: Sequence[tuple[OutboundRecord, int]]) -> dict[int, int]:
        """The offset behind the newest ranking, by partition."""
        ends: dict[int, int] = {}
        for record, offset in record_offsets:
            if record.topic == self._topics.rankings and record.partition is not None:
                ends[record.partition] = max(offset + 1, ends.get(record.partition, 0))
        return ends


def _due_slots(checkpoint: PartitionCheckpoint, dirty_before: float, limit: int) -> tuple[int, ...]:
    """Up to `limit` slots of states that have been dirty since `dirty_before` or longer, the lowest offset first."""
    oldest = islice(checkpoint.dirty.items(), limit)
    return tuple(slot for slot, _ in takewhile(lambda entry: entry[1].dirty_at <= dirty_before, oldest))


def _complete_to(
    checkpoint: PartitionCheckpoint, events: OffsetRange, saved: int, newly_dirty: Iterable[DirtyUser]
) -> int:
    """The offset before which saved states lack no event, once the first `saved` dirty ones are written."""
    still_dirty = next(islice(checkpoint.dirty.values(), saved, None), None)
    if still_dirty is not None:
        return still_dirty.first_offset
    return min((user.first_offset for user in newly_dirty), default=events.end)


def _epochs(known: list[Epoch], complete_to: int, events: OffsetRange, release: str | None) -> list[Epoch]:
    """Which release ranked from which offset on, with these events, less what ended before `complete_to`."""
    epochs = list(known)
    if release is not None and (not epochs or epochs[-1].release != release):
        epochs.append(Epoch(events.start, release))
    while len(epochs) > 1 and epochs[1].offset <= complete_to:
        epochs.pop(0)
    return epochs


def _rankings_offset(checkpoint: PartitionCheckpoint, complete_to: int, events: OffsetRange) -> int:
    """The lowest offset that a ranking of the events from `complete_to` on can have."""
    if complete_to >= events.start:
        return checkpoint.rankings_end
    return max(
        (ranking for event, ranking in checkpoint.ranking_offset_index if event <= complete_to),
        default=checkpoint.marker.rankings_offset,
    )


def _prune(ranking_offset_index: deque[tuple[int, int]], complete_to: int) -> None:
    while len(ranking_offset_index) > 1 and ranking_offset_index[1][0] <= complete_to:
        ranking_offset_index.popleft()
