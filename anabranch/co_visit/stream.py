"""Co-visits of events as they come: ids in place of numbers, no duplicates, and no users that no person could be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from anabranch.co_visit import arrays, text_prior
from anabranch.co_visit.columns import joined, taken
from anabranch.co_visit.counts import CoVisitCounts, Visits
from anabranch.co_visit.memory import NONE
from anabranch.co_visit.shard import WHOLE, Shard
from anabranch.co_visit.shares import DAY_MS, table_rows
from anabranch.co_visit.table import CoVisitTable
from anabranch.co_visit.text_prior import NO_TEXTS
from anabranch.co_visit.unusual_activity import MIN_EVENTS, activity_limit
from anabranch.co_visit_rule import CoVisitRule
from anabranch.messages import Event
from anabranch.ranking.event_batch import event_keys, happened_ms
from anabranch.ranking.jit import compiled
from anabranch.ranking.user_state.update import mark_duplicates
from anabranch.ranking.vocabulary import stable_hash
from anabranch.release import Release


class StreamLimits(NamedTuple):
    """What a stream remembers of users."""

    max_users: int
    """Beyond so many, the half that was idle for the longest is forgotten: what they do later pairs with nothing that
    they did before."""
    dedupe_window: int
    """Event ids of each user. An event with one of these ids is a duplicate."""


class UserActivity(NamedTuple):
    """Of U users."""

    recent_event: NDArray[np.uint64]
    """[U, n] a ring of event keys"""
    dedupe_count: NDArray[np.int64]
    day: NDArray[np.int64]
    """[U] the newest day (UTC) with an event"""
    today: NDArray[np.int64]
    """[U] events of that day"""
    busiest: NDArray[np.int64]
    """[U] most events of a day"""


class CoVisitStream:
    """The co-visit counts of all events so far, with the rows of a shard.

    Streams of all shards that learned the same events have, together, the rows of a stream of the whole.
    """

    def __init__(self, rule: CoVisitRule, limits: StreamLimits, shard: Shard = WHOLE) -> None:
        self.counts = CoVisitCounts(rule)
        self.item_ids: list[str] = []
        self._limits = limits
        self._shard = shard
        self._texts = NO_TEXTS
        self._items: dict[str, int] = {}
        self._users: dict[int, int] = {}
        """Stable hash of a user id → number."""
        self._activity = _no_activity(0, limits)
        self._limit = float(MIN_EVENTS)
        """Events of a day beyond which a user leaves no trace."""

    @property
    def items(self) -> int:
        """Items of the shard that users visited."""
        memory = self.counts.memory
        return int((memory.has_row & (memory.items.users > 0)).sum())

    @property
    def users(self) -> int:
        """Users that are remembered."""
        return len(self._users)

    @property
    def unusual_users(self) -> int:
        """Users whose activity no person has."""
        return int((self._activity.busiest > self._limit).sum())

    def learn(self, events: Sequence[Event], appended_ms: Sequence[int]) -> int:
        """Count the events [n] in the order of their log; returns how many of them are duplicates.

        Impressions are passed over: see `Event.is_action`. `appended_ms`: see `happened_ms`.
        """
        actions = [index for index, event in enumerate(events) if event.is_action]
        if len(actions) < len(events):
            events, appended_ms = [events[n] for n in actions], [appended_ms[n] for n in actions]
        if not events:
            return 0
        known_items = len(self.item_ids)
        user = np.array([self._user(event.user_id) for event in events], np.int64)
        ts, activity = happened_ms(events, appended_ms), self._activity
        duplicate = mark_duplicates(activity.recent_event, activity.dedupe_count, user, event_keys(events))
        is_usual = _count_activity(activity, user, ts, duplicate, self._limit)
        visits = Visits(
            user=user,
            item=np.array([self._item(event.item_of_interest) for event in events], np.int64),
            ts=ts,
            session=np.array([_session(event.session_id) for event in events], np.int64),
            is_counted=is_usual,
        )
        self._choose_rows(known_items)
        self.counts.learn(taken(visits, ~duplicate))
        self._forget_idle_users()
        return int(duplicate.sum())

    def watch_activity(self) -> None:
        """Take the newest activity of all users as the measure of what is unusual."""
        busiest = self._activity.busiest[: len(self._users)]
        if len(busiest):
            self._limit = activity_limit(busiest, MIN_EVENTS)

    def read_texts(self, release: Release) -> NDArray[np.int64]:
        """Take the neighbours by text of a release, in place of those before; returns the items that have a row now.

        Raises `ReleaseError` if they cannot be read.
        """
        known_items = len(self.item_ids)
        self._texts = text_prior.read(release, self._item)
        self._choose_rows(known_items)
        return np.flatnonzero(self.counts.memory.has_row & (self.counts.memory.items.users > 0))

    def rows(self, items: NDArray[np.int64], width: int) -> CoVisitTable:
        """The rows of those of the items [n] that have one: they are of the shard, and not of duplicates alone."""
        memory = self.counts.memory
        items = items[memory.has_row[items] & (memory.items.users[items] > 0)]
        return table_rows(self.counts, items, width, self.counts.rule.min_users, self._texts)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything, to go on from later."""
        return {
            **arrays.of_counts(self.counts),
            **{f"activity.{name}": column for name, column in self._activity._asdict().items()},
            "user_hashes": np.fromiter(self._users, np.uint64, len(self._users)),
            "item_ids": np.frombuffer(msgspec.json.encode(self.item_ids), np.uint8),
            "limit": np.array([self._limit]),
        }

    @classmethod
    def from_arrays(
        cls, rule: CoVisitRule, limits: StreamLimits, saved: Mapping[str, NDArray[Any]], shard: Shard = WHOLE
    ) -> Self:
        """The stream that `to_arrays` described, of the same shard.

        Raises `ValueError` if it had other limits or another rule.
        """
        stream = cls(rule, limits, shard)
        arrays.restore_counts(stream.counts, saved)
        stream._activity = UserActivity(*(saved[f"activity.{name}"] for name in UserActivity._fields))
        if stream._activity.recent_event.shape[1] != limits.dedupe_window:
            raise ValueError(f"it was saved with {stream._activity.recent_event.shape[1]} event ids for each user")
        stream._users = {user: number for number, user in enumerate(saved["user_hashes"].tolist())}
        stream.item_ids = msgspec.json.decode(saved["item_ids"].tobytes(), type=list[str])
        stream._items = {item_id: number for number, item_id in enumerate(stream.item_ids)}
        stream._limit = float(saved["limit"][0])
        stream._choose_rows(0)
        return stream

    def _user(self, user_id: str) -> int:
        key = stable_hash(user_id)
        number = self._users.get(key)
        if number is None:
            number = self._users[key] = len(self._users)
            if number == len(self._activity.day):
                more = _no_activity(max(1024, number), self._limits)
                self._activity = joined(self._activity, more)
        return number

    def _item(self, item_id: str | None) -> int:
        if item_id is None:
            return NONE
        number = self._items.get(item_id)
        if number is None:
            number = self._items[item_id] = len(self.item_ids)
            self.item_ids.append(item_id)
        return number

    def _choose_rows(self, first: int) -> None:
        """Keep rows of those of the items from the number `first` on that are in the shard."""
        has_row = [self._shard.has(item_id) for item_id in self.item_ids[first:]]
        self.counts.choose_rows(first, np.array(has_row, np.bool_))

    def _forget_idle_users(self) -> None:
        if len(self._users) <= self._limits.max_users:
            return
        last_ms = self.counts.memory.users.last_ms[: len(self._users)]
        newest = np.sort(np.argsort(last_ms, kind="stable")[len(last_ms) // 2 :])
        self.counts.keep_users(newest)
        self._activity = taken(self._activity, newest)
        hashes = list(self._users)
        self._users = {hashes[number]: new for new, number in enumerate(newest.tolist())}


def warm_up(limits: StreamLimits) -> None:
    """Compile all that a stream does, in some seconds, so that the first events do not wait for it."""
    stream = CoVisitStream(CoVisitRule(min_users=1), limits)
    events = [Event(event_id=item, user_id="", type="view", item_id=item, ts=0) for item in ("a", "b")]
    stream.learn(events, [0, 0])
    stream.rows(stream.counts.take_changed().by_new, 1)


def _no_activity(users: int, limits: StreamLimits) -> UserActivity:
    return UserActivity(
        recent_event=np.zeros((users, limits.dedupe_window), np.uint64),
        dedupe_count=np.zeros(users, np.int64),
        day=np.full(users, -1, np.int64),
        today=np.zeros(users, np.int64),
        busiest=np.zeros(users, np.int64),
    )


def _session(session_id: str | None) -> int:
    return NONE if session_id is None else stable_hash(session_id) >> 1  # of 63 bits, so never NONE


@compiled
def _count_activity(
    activity: UserActivity,
    user: NDArray[np.int64],
    ts: NDArray[np.int64],
    duplicate: NDArray[np.bool_],
    limit: float,
) -> NDArray[np.bool_]:
    """Count the events [n] of their users' days; whether each is of a user who never had more than the limit a day."""
    is_usual = np.empty(len(user), np.bool_)
    for n in range(len(user)):
        of, day = user[n], ts[n] // DAY_MS
        if not duplicate[n]:
            if day > activity.day[of]:
                activity.day[of], activity.today[of] = day, 0
            activity.today[of] += 1  # of an earlier day, too: events that come late are few
            activity.busiest[of] = max(activity.busiest[of], activity.today[of])
        is_usual[n] = activity.busiest[of] <= limit
    return is_usual
