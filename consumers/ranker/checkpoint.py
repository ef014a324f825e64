"""Checkpoints: which user states the next transaction saves, and the marker that says how far they go.

A state is a fold over its user's events, so it need not be saved with every event. It is saved once it has been ahead
of its saved form for `checkpoint_ms`, the oldest first and so many a transaction, which spreads the work; and each
saved state says which events it holds. The marker is the offset before which no event is missing from its user's saved
state.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import NamedTuple

import numpy as np

from anabranch.kafka import topics
from anabranch.kafka.topics import Topics
from anabranch.messages import STATE_MARKER_KEY, Epoch, StateMarker, encode_binary
from anabranch.ranking.user_state.codec import save
from anabranch.ranking.user_state.store import UserStates
from anabranch.ranking.vocabulary import ItemIds, ReleaseNumbers
from consumers.runtime.outbound import Outgoing

MOST = 1024
"""States saved in one transaction: some 50 ms of work."""


class Dirty(NamedTuple):
    """A user whose state is ahead of its saved form."""

    offset: int
    """The first event that is not in the saved form."""
    since: float
    """Seconds, of a monotonic clock."""
    user_id: str


class First(NamedTuple):
    """The first event of a batch that moved a user."""

    offset: int
    user_id: str


class Stretch(NamedTuple):
    """A partition's part of a batch: the events from `start` up to `end` were ranked."""

    start: int
    end: int
    first: Mapping[int, First]
    """By slot."""


@dataclass
class Progress:
    """What a partition's saved states lack, and what its marker must say."""

    marker: StateMarker
    """As it stands in the log."""
    next: int
    """The offset that is ranked next."""
    rankings_end: int
    """Rankings yet to come stand at this offset of `rankings` or behind it."""
    dirty: dict[int, Dirty] = field(default_factory=dict)
    """By slot, the lowest offset first."""
    trail: deque[tuple[int, int]] = field(default_factory=deque)
    """(offset of an event, offset of `rankings` at or behind which its ranking stands), ascending."""
    marked: float = 0.0
    """When the marker was written: seconds, of a monotonic clock."""


@dataclass(frozen=True)
class Checkpoint:
    """One partition's part of a transaction."""

    partition: int
    saved: tuple[int, ...]
    """Slots."""
    touched: Mapping[int, Dirty]
    """Users who were not dirty before this batch and are after it, by slot."""
    stretch: Stretch
    marker: StateMarker | None
    """None: what stands in the log still holds."""


class Checkpoints:
    """Plans checkpoints, and takes note once they are committed; a plan that is not committed leaves no trace."""

    def __init__(
        self, names: Topics, states: UserStates, item_ids: ItemIds, releases: ReleaseNumbers, interval_s: float
    ) -> None:
        self._names = names
        self._states = states
        self._item_ids = item_ids
        self._releases = releases
        self._interval_s = interval_s
        self._partitions: dict[int, Progress] = {}

    @property
    def dirty(self) -> int:
        """Users whose state is ahead of its saved form."""
        return sum(len(progress.dirty) for progress in self._partitions.values())

    def begin(self, partition: int, progress: Progress) -> None:
        """The partition's states have been restored."""
        self._partitions[partition] = progress

    def forget(self, partition: int) -> None:
        """The partition moved away."""
        self._partitions.pop(partition, None)

    def plan(
        self, stretches: Mapping[int, Stretch], release: str | None, now: float, at_once: bool = False
    ) -> list[Checkpoint]:
        """What to write along with a batch whose events are in the states already, and for partitions that had none.

        `stretches` by partition, ranked by `release`; with `at_once`, dirty states are due whatever their age.
        """
        plans = [
            self._plan(
                partition,
                progress,
                stretches.get(partition, Stretch(progress.next, progress.next, {})),
                release,
                now,
                0.0 if at_once else self._interval_s,
            )
            for partition, progress in self._partitions.items()
        ]
        return [plan for plan in plans if plan.partition in stretches or plan.marker is not None]

    def messages(self, plans: Iterable[Checkpoint]) -> Iterator[Outgoing]:
        """The states, then the markers."""
        for plan in plans:
            saved = save(self._states, np.array(plan.saved, np.int64), self._item_ids, self._releases)
            dirty = self._partitions[plan.partition].dirty
            for slot, state in zip(plan.saved, saved, strict=True):
                user = topics.key(dirty[slot].user_id)
                yield Outgoing(self._names.user_state, user, encode_binary(state), plan.partition)
            if plan.marker is not None:
                yield Outgoing(self._names.user_state, STATE_MARKER_KEY, encode_binary(plan.marker), plan.partition)

    def committed(self, plans: Sequence[Checkpoint], published: Sequence[tuple[Outgoing, int]], now: float) -> None:
        """The transaction is committed; `published` has its messages and the offset of each, -1 where not known."""
        placed, rankings_ends = self._placed(plans, published)
        for plan in plans:
            progress = self._partitions[plan.partition]
            progress.trail.append((plan.stretch.start, progress.rankings_end))
            progress.next = plan.stretch.end
            progress.dirty |= plan.touched
            self._states.columns.dirty[list(plan.touched)] = True
            for slot in plan.saved:
                offset = placed.get(slot)
                if offset is not None:  # else it is saved again: only a state whose place is known can be evicted
                    del progress.dirty[slot]
                    self._states.columns.saved_at[slot] = offset
                    self._states.columns.dirty[slot] = False
            if plan.marker is not None:
                progress.marker, progress.marked = plan.marker, now
                _prune(progress.trail, plan.marker.offset)
        for partition, end in rankings_ends.items():
            if partition in self._partitions:
                progress = self._partitions[partition]
                progress.rankings_end = max(progress.rankings_end, end)

    def _plan(
        self, partition: int, progress: Progress, stretch: Stretch, release: str | None, now: float, interval: float
    ) -> Checkpoint:
        oldest = islice(progress.dirty.items(), max(1, MOST // len(self._partitions)))
        saved = tuple(slot for slot, _ in takewhile(lambda one: one[1].since <= now - interval, oldest))
        touched = {
            slot: Dirty(first.offset, now, first.user_id)
            for slot, first in stretch.first.items()
            if slot not in progress.dirty
        }
        still_dirty = next(islice(progress.dirty.values(), len(saved), None), None)
        complete = (
            still_dirty.offset if still_dirty else min((one.offset for one in touched.values()), default=stretch.end)
        )
        epochs = _epochs(progress.marker.epochs, complete, stretch, release if stretch.first else None)
        begins_an_epoch = len(epochs) > 0 and epochs[-1] not in progress.marker.epochs
        moved = complete > progress.marker.offset and now - progress.marked >= interval
        marker = StateMarker(offset=complete, rankings_offset=_rankings(progress, complete, stretch), epochs=epochs)
        needed = bool(saved) or begins_an_epoch or moved
        return Checkpoint(partition, saved, touched, stretch, marker if needed else None)

    def _placed(
        self, plans: Sequence[Checkpoint], published: Sequence[tuple[Outgoing, int]]
    ) -> tuple[dict[int, int], dict[int, int]]:
        """Offsets of the states by slot, for they were published in the order of the plans, and by partition the ends
        of the rankings; none of what is not known."""
        states, ends = list[int](), dict[int, int]()
        for message, offset in published:
            if message.topic == self._names.rankings and message.partition is not None:
                ends[message.partition] = max(offset + 1, ends.get(message.partition, 0))
            elif message.topic == self._names.user_state and message.key != STATE_MARKER_KEY:
                states.append(offset)
        slots = (slot for plan in plans for slot in plan.saved)
        return {slot: offset for slot, offset in zip(slots, states, strict=bool(published)) if offset >= 0}, ends


def _epochs(known: list[Epoch], complete: int, stretch: Stretch, release: str | None) -> list[Epoch]:
    """The epochs with the stretch, less those that ended before `complete`."""
    epochs = list(known)
    if release is not None and (not epochs or epochs[-1].release != release):
        epochs.append(Epoch(stretch.start, release))
    while len(epochs) > 1 and epochs[1].offset <= complete:
        epochs.pop(0)
    return epochs


def _rankings(progress: Progress, complete: int, stretch: Stretch) -> int:
    """Where the rankings of the events from `complete` on begin, at the earliest."""
    if complete >= stretch.start:
        return progress.rankings_end
    return max(
        (ranking for event, ranking in progress.trail if event <= complete), default=progress.marker.rankings_offset
    )


def _prune(trail: deque[tuple[int, int]], complete: int) -> None:
    while len(trail) > 1 and trail[1][0] <= complete:
        trail.popleft()
