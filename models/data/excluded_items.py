"""The items of a user that a ranker does not show, and those that it does, as far as it remembers them: what learns or
ranks beside it does the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from anabranch.placements import Placement
from anabranch.ranking.policy import Policy
from anabranch.ranking.types import Mask, Rows
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
    """What decides the slates of a placement besides the ranker that makes them: their length, and what they must not
    show. The placement is the policy's first."""

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

    @property
    def placement(self) -> Placement:
        """The placement."""
        return self.policy.placements[0]

    @property
    def by_placement(self) -> list[Self]:
        """The rules of each of the policy's placements."""
        return [
            replace(self, policy=replace(self.policy, placements=(placement,))) for placement in self.policy.placements
        ]


@dataclass(frozen=True)
class UserItems:
    """Some items of a user's own at M points of a log, by the log's item numbers."""

    point: Positions  # [M] of each point its number among the `offset`s; -1: there are none
    item: Rows  # [K], one point after the other
    offset: Positions  # [m + 1] where the items of each point begin, and K

    def of_point(self, index: int) -> set[int]:
        """The items at a point."""
        number = int(self.point[index])
        return set() if number < 0 else set(self.item[self.offset[number] : self.offset[number + 1]].tolist())

    def padded(self, indices: slice | Positions = slice(None)) -> Rows:
        """The items at some points, by default at all of them: [m, h], -1 padded."""
        point = self.point[indices]
        start = self.offset[point]
        count = np.where(point >= 0, self.offset[point + 1] - start, 0)
        nth = np.arange(count.max(initial=0))
        index = np.minimum(start[:, None] + nth, max(len(self.item) - 1, 0))
        padded = np.where(nth < count[:, None], np.append(self.item, np.int32(-1))[index], -1)
        return padded.astype(np.int32)


def excluded_items(log: EventLog, rows: Positions, rules: SlateRules) -> UserItems:
    """What a ranker excludes at the events at rows [M], by the state that each user had before the event."""
    return excluded_after(log, log.previous()[rows], rules)


def excluded_after(events: EventLog | Sequences, rows: Positions, rules: SlateRules) -> UserItems:
    """What a ranker excludes after the events at rows [M], by the user's state then; where a row is -1, nothing."""
    return _items_after(events, rows, rules, lambda snapshots: _excluded(snapshots, rules.policy))


def own_items(log: EventLog, rows: Positions, rules: SlateRules) -> UserItems:
    """All items of the user's own that a ranker remembers at the events at rows [M], by the state before the event."""
    return _items_after(log, log.previous()[rows], rules, _own)


def _items_after(
    events: EventLog | Sequences,
    rows: Positions,
    rules: SlateRules,
    choose: Callable[[UserSnapshots], tuple[Rows, Mask]],
) -> UserItems:
    """The items that `choose` takes of the users' states [n]: all of their items [n, h], and which of them.

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
        listed, chosen = choose(snapshots)
        items.append(listed[chosen])
        counts.append(chosen.sum(axis=1))
    offset = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
    point = np.where(rows >= 0, np.searchsorted(snapshot_rows, rows), -1)
    return UserItems(point, np.concatenate(items), offset)


def _own(snapshots: UserSnapshots) -> tuple[Rows, Mask]:
    """The items of the states [n], [n, h], and which entries hold one."""
    listed = np.concatenate([snapshots.recent, snapshots.long_term.item], axis=1)
    in_long_term = np.arange(snapshots.long_term.item.shape[1]) < snapshots.long_term_size[:, None]
    return listed, np.concatenate([snapshots.recent >= 0, in_long_term], axis=1)


def _excluded(snapshots: UserSnapshots, policy: Policy) -> tuple[Rows, Mask]:
    """The items of the states [n], [n, h], and which of them the policy excludes."""
    listed, present = _own(snapshots)
    in_session = np.arange(listed.shape[1]) < snapshots.session_length[:, None]
    excluded = np.where(in_session, policy.excludes(in_session=True), policy.excludes(in_session=False))
    return listed, excluded & present
