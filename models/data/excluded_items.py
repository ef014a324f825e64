"""The items that a ranker does not show a user, as far as it remembers them: what learns or ranks beside it leaves out
the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from anabranch.ranking.policy import Policy
from anabranch.ranking.types import Rows
from anabranch.ranking.user_state.layout import StateLayout
from anabranch.ranking.user_state.snapshot import UserSnapshots
from anabranch.ranking.user_state.store import UserStates
from anabranch.release import ReleasePolicy
from anabranch.settings import Settings
from models.data.event_batches import REPLAY_BATCH, batch_columns
from models.data.event_log import EventLog
from models.data.sequences import Positions, Sequences


@dataclass(frozen=True)
class SlateRules:
    """What decides a slate besides the ranker that makes it: its length, and what it must not show."""

    policy: Policy
    layout: StateLayout

    @classmethod
    def from_settings(cls, settings: Settings, release: ReleasePolicy) -> Self:
        """The rules by which rankers with these settings serve a release."""
        return cls(Policy.from_settings(settings, release), StateLayout.from_settings(settings))

    @property
    def slate(self) -> int:
        """Items of a slate."""
        return self.layout.slate


@dataclass(frozen=True)
class ExcludedItems:
    """Items excluded at M points of a log, by the log's item numbers."""

    point: Positions  # [M] of each point its number among the `offset`s; -1: nothing is excluded
    item: Rows  # [K], one point after the other
    offset: Positions  # [m + 1] where the items of each point begin, and K

    def of_point(self, index: int) -> set[int]:
        """The items excluded at a point."""
        number = int(self.point[index])
        return set() if number < 0 else set(self.item[self.offset[number] : self.offset[number + 1]].tolist())

    def padded(self, indices: slice | Positions = slice(None)) -> Rows:
        """The items excluded at some points, by default at all of them: [m, h], -1 padded."""
        point = self.point[indices]
        start = self.offset[point]
        count = np.where(point >= 0, self.offset[point + 1] - start, 0)
        nth = np.arange(count.max(initial=0))
        index = np.minimum(start[:, None] + nth, max(len(self.item) - 1, 0))
        padded = np.where(nth < count[:, None], np.append(self.item, np.int32(-1))[index], -1)
        return padded.astype(np.int32)


def excluded_items(log: EventLog, rows: Positions, rules: SlateRules) -> ExcludedItems:
    """What a ranker excludes at the events at rows [M], by the state that each user had before the event."""
    return excluded_after(log, log.previous()[rows], rules)


def excluded_after(events: EventLog | Sequences, rows: Positions, rules: SlateRules) -> ExcludedItems:
    """What a ranker excludes right after the events at rows [M], by the user's state then; nothing where a row is -1.

    The states are the ranker's own: a user's history and long-term items are bounded, so a ranker forgets, and may show
    again what the user had long ago. A user's events must be in time order, those of others may come between or not.
    """
    snapshot_rows = np.unique(rows[rows >= 0])
    states = UserStates(rules.layout, dims=1, state_dims=1)
    users, user = np.unique(events.user, return_inverse=True)
    slots = states.slots([str(number) for number in users.tolist()])[user]
    items, counts = [np.empty(0, np.int32)], [np.empty(0, np.int64)]
    for start in range(0, len(events), REPLAY_BATCH):
        part = slice(start, start + REPLAY_BATCH)
        columns = batch_columns(events, part, slots, events.item)
        first, last = np.searchsorted(snapshot_rows, [part.start, part.stop])
        no_duplicates = np.zeros(len(columns.ts), np.bool_)
        _, snapshots = states.apply_events(columns, no_duplicates, snapshot_rows[first:last] - start)
        listed, excluded = _lists(snapshots, rules.policy)
        items.append(listed[excluded])
        counts.append(excluded.sum(axis=1))
    offset = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
    point = np.where(rows >= 0, np.searchsorted(snapshot_rows, rows), -1)
    return ExcludedItems(point, np.concatenate(items), offset)


def _lists(snapshots: UserSnapshots, policy: Policy) -> tuple[Rows, np.ndarray]:
    """All items that the states [n] have, [n, h], and which of them the policy excludes."""
    age = np.arange(snapshots.recent.shape[1])
    session = (age < snapshots.session_length[:, None]) & policy.excludes(in_session=True)
    seen = np.full(snapshots.recent.shape, policy.excludes(in_session=False))
    nth = np.arange(snapshots.long_term.item.shape[1])
    long_term = (nth < snapshots.long_term_size[:, None]) & policy.excludes(in_session=False)
    listed = np.concatenate([snapshots.recent, snapshots.long_term.item], axis=1)
    return listed, np.concatenate([session | seen, long_term], axis=1) & (listed >= 0)
