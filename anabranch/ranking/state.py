"""User states: everything the ranker keeps of its users, in contiguous arrays, one slot a user."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.item_ids import Rows
from anabranch.settings import Settings

Slots = NDArray[np.int64]

WEEK_S = 7 * 24 * 3600
SESSION_GAP_MS = 30 * 60 * 1000
"""Events without a `session_id` belong together until a user pauses for half an hour, the web's usual bound."""


@dataclass(frozen=True)
class StateLayout:
    """How much is kept per user, so that memory has a bound."""

    history: int = 64
    """Newest events kept in the ring."""
    own_items: int = 128
    """Items of the user's own with decayed counts; the weakest makes room."""
    slate: int = 20
    recent_events: int = 16
    """Event ids remembered to tell duplicates."""
    own_half_life_s: int = 8 * WEEK_S

    @classmethod
    def of(cls, settings: Settings) -> StateLayout:
        """As the settings say."""
        return cls(
            history=settings.history_length,
            own_items=settings.own_items,
            slate=settings.slate_size,
            recent_events=settings.dedupe_window,
        )


@dataclass
class Columns:
    """The arrays, all [slots, …]. A new user's slot is what `_blank` says; one nobody has had yet is all zeros."""

    recurrent: NDArray[np.float32]
    """[n, S] the encoder's recurrent state."""
    vector: NDArray[np.float32]
    """[n, d] the user vector."""
    encoded_by: NDArray[np.int32]
    """[n] number of the release that made `recurrent` and `vector`, -1: none. If that is not the live one, they are
    rebuilt at first touch."""
    history_item: Rows
    """[n, H] ring; entry `observed % H` is written next."""
    history_type: NDArray[np.uint8]
    history_ts: NDArray[np.int64]
    observed: NDArray[np.int64]
    """[n] events entered in the ring, ever."""
    last_ts: NDArray[np.int64]
    """[n] ms of the newest event, -1 before the first."""
    session: NDArray[np.uint64]
    """[n] hash of the newest session id, 0 where events name none."""
    session_length: NDArray[np.int32]
    """[n] how many of the newest ring entries belong to the current session."""
    own_item: Rows
    """[n, M] the user's own items, -1 where free."""
    own_log: NDArray[np.float32]
    """[n, M] log2 of the decayed count as a forward decay (Cormode et al., 2009): it needs no update as time
    goes by; the count at time t is 2 ** (own_log - t / half-life)."""
    own_count: NDArray[np.float32]
    own_first_s: NDArray[np.int64]
    own_last_s: NDArray[np.int64]
    slate: Rows
    """[n, slate] the last slate shown, -1 padded."""
    slate_release: NDArray[np.int32]
    """[n] number of the release that made the slate, -1: none was shown."""
    recent_event: NDArray[np.uint64]
    """[n, recent] ring of event id hashes; `seen % recent` is written next."""
    seen: NDArray[np.int64]
    partition: NDArray[np.int32]
    """[n] input partition of the user, -1 for a free slot."""
    next_offset: NDArray[np.int64]
    """[n] the state holds every event of the user before this offset of its partition, and none after."""
    saved_at: NDArray[np.int64]
    """[n] offset at which the newest saved state stands in the log of states, -1: none does."""
    dirty: NDArray[np.bool_]
    """[n] whether the state is ahead of its saved form."""
    touched: NDArray[np.int64]
    """[n] count of the batches so far when the user was last part of one: who is idle longest has the smallest."""


class Evicted(NamedTuple):
    """Where the state of a user who is not in memory stands in the log of states."""

    user_id: str
    partition: int
    offset: int


class UserStates:
    """All users' states. Arrays are reached as attributes of `columns`, by slot.

    A user is in memory, evicted (the log has the state, and this remembers where), or new. Users belong to a partition:
    one whose events some producer spread over two has a state in each.
    """

    def __init__(self, layout: StateLayout, dims: int, state_dims: int, room: int = 64) -> None:
        """Address space for `room` users is taken at once, memory only as they come: zeros cost none until written."""
        self.layout = layout
        self._slots: dict[int, dict[str, int]] = {}
        """By partition, by user."""
        self._users: list[str] = []
        """By slot; of a free slot, the user it had last."""
        self._free: list[int] = []
        self._evicted: dict[int, dict[str, int]] = {}
        """Offset in the log of states by user, by partition."""
        self._batches = 0
        self._dims = (dims, state_dims)
        self.columns = Columns(*(_zeros(column, room) for column in _columns(_blank(layout, dims, state_dims, 1))))

    def __len__(self) -> int:
        return len(self._users) - len(self._free)

    @property
    def evicted(self) -> int:
        """How many users only the log holds."""
        return sum(len(users) for users in self._evicted.values())

    @property
    def dims(self) -> tuple[int, int]:
        """d and S: the lengths of user vectors and of recurrent states."""
        return self._dims

    @property
    def nbytes(self) -> int:
        """Bytes of all columns, as far as users have ever filled them."""
        return len(self._users) * sum(column[:1].nbytes for column in _columns(self.columns))

    def slots(self, user_ids: Iterable[str], partition: int | Iterable[int] = 0) -> Slots:
        """Slots [B] of the users, new ones where needed, blank and marked with the partition."""
        partitions = repeat(partition) if isinstance(partition, int) else iter(partition)
        found, new = [], []
        for user_id, home in zip(user_ids, partitions, strict=False):
            slot = self._slots.setdefault(home, {}).get(user_id)
            if slot is None:
                slot = self._add(user_id, home)
                new.append(slot)
            found.append(slot)
        if new:
            self.blank(np.array(new, np.int64))
        return np.array(found, np.int64)

    def slot_of(self, user_id: str, partition: int = 0) -> int | None:
        """The slot of a partition's user, or None for a user not in memory."""
        return self._slots.get(partition, {}).get(user_id)

    def user_at(self, slot: int) -> str:
        """The user who has a slot."""
        return self._users[slot]

    def touch(self, slots: Slots) -> None:
        """The users are part of a batch: they are not idle."""
        self._batches += 1
        self.columns.touched[slots] = self._batches

    def copy(self, slots: Slots) -> Columns:
        """What the slots [B] hold now, to be put back should the batch come to nothing."""
        return Columns(*(column[slots] for column in _columns(self.columns)))

    def put_back(self, slots: Slots, copy: Columns) -> None:
        """Undo whatever happened to the slots [B] since the copy, but for what is known of their saved forms."""
        saved_at, dirty = self.columns.saved_at[slots], self.columns.dirty[slots]
        self._write(slots, copy)
        self.columns.saved_at[slots], self.columns.dirty[slots] = saved_at, dirty

    def show(self, slot: int, slate: Rows, release: int) -> None:
        """The user has been shown a slate, which that release made; what the layout has no room for is left out."""
        kept = slate[: self.layout.slate]
        self.columns.slate[slot] = -1
        self.columns.slate[slot, : len(kept)] = kept
        self.columns.slate_release[slot] = release

    def blank(self, slots: Slots) -> None:
        """Make the slots [B] what a new user's is; the users stay."""
        partition = self.columns.partition[slots]
        self._write(slots, _blank(self.layout, *self._dims, len(slots)))
        self.columns.partition[slots] = partition

    def evictable(self, n: int) -> Slots:
        """Up to n slots whose states the log has as they are, of the users who were idle for longest."""
        end = len(self._users)
        columns = self.columns
        saved = (columns.partition[:end] >= 0) & (columns.saved_at[:end] >= 0) & ~columns.dirty[:end]
        slots = np.flatnonzero(saved)
        if n >= len(slots):
            return slots
        return slots[np.argpartition(columns.touched[slots], n)[:n]]

    def evict(self, slots: Slots) -> None:
        """Let go of users whose saved state is up to date; `away` tells where it stands."""
        for slot in slots.tolist():
            user_id, partition = self._users[slot], int(self.columns.partition[slot])
            self._evicted.setdefault(partition, {})[user_id] = int(self.columns.saved_at[slot])
            self._release(slot)

    def away(self, user_ids: Iterable[str], partition: int) -> list[Evicted]:
        """Those of a partition's users who were evicted, each once: before use, their states must be loaded."""
        evicted = self._evicted.get(partition)
        if not evicted:
            return []
        return [Evicted(user, partition, evicted[user]) for user in dict.fromkeys(user_ids) if user in evicted]

    def forget(self, user_id: str, partition: int) -> None:
        """The user has no state any more, in memory or away."""
        self._evicted.get(partition, {}).pop(user_id, None)
        slot = self.slot_of(user_id, partition)
        if slot is not None:
            self._release(slot)

    def drop_partition(self, partition: int) -> int:
        """Forget the users of a partition that moved away; how many were in memory."""
        self._evicted.pop(partition, None)
        gone = np.flatnonzero(self.columns.partition[: len(self._users)] == partition).tolist()
        for slot in gone:
            self._release(slot)
        return len(gone)

    def expect(self, dims: int, state_dims: int) -> None:
        """Make room for the vectors of another release's encoder, if they are of other sizes."""
        if (dims, state_dims) == self._dims:
            return
        capacity = len(self.columns.encoded_by)
        self._dims = (dims, state_dims)
        self.columns.recurrent = np.zeros((capacity, state_dims), np.float32)
        self.columns.vector = np.zeros((capacity, dims), np.float32)
        self.columns.encoded_by[:] = -1

    def seen_before(self, slots: Slots, keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which of the events [B], one per slot, are among the user's last `recent_events`; remembers the others."""
        columns = self.columns
        seen: NDArray[np.bool_] = (columns.recent_event[slots] == keys[:, None]).any(axis=1)
        fresh = slots[~seen]
        columns.recent_event[fresh, columns.seen[fresh] % self.layout.recent_events] = keys[~seen]
        columns.seen[fresh] += 1
        return seen

    def observe(
        self,
        slots: Slots,
        items: Rows,
        types: NDArray[np.uint8],
        ts: NDArray[np.int64],
        sessions: NDArray[np.uint64],
    ) -> None:
        """Enter one event per slot: session, ring and own items. Arrays are [B], slots distinct, ts in ms.

        An event without an item (row -1: a search) touches the session and the clock only. A late event enters
        as it comes; the clock never runs backwards.
        """
        columns = self.columns
        stays = (columns.session[slots] == sessions) & (columns.last_ts[slots] >= 0)
        stays &= (sessions != 0) | (ts - columns.last_ts[slots] <= SESSION_GAP_MS)
        columns.session_length[slots[~stays]] = 0
        columns.session[slots] = sessions
        columns.last_ts[slots] = np.maximum(columns.last_ts[slots], ts)

        named = items >= 0
        slots, items, types, ts = slots[named], items[named], types[named], ts[named]
        place = columns.observed[slots] % self.layout.history
        columns.history_item[slots, place] = items
        columns.history_type[slots, place] = types
        columns.history_ts[slots, place] = ts
        columns.observed[slots] += 1
        columns.session_length[slots] = np.minimum(columns.session_length[slots] + 1, self.layout.history)
        self._count_own(slots, items, ts // 1000)

    def recent(self, slots: Slots, length: int) -> Rows:
        """The newest `length` items [B, length] of each ring, newest first, -1 padded.

        The first `session_length` of them are of the current session.
        """
        columns = self.columns
        age = np.arange(min(length, self.layout.history))
        observed = columns.observed[slots][:, None]
        items = columns.history_item[slots[:, None], (observed - 1 - age) % self.layout.history]
        return np.where(age < observed, items, -1).astype(np.int32)

    def _count_own(self, slots: Slots, items: Rows, seconds: NDArray[np.int64]) -> None:
        columns = self.columns
        match = columns.own_item[slots] == items[:, None]
        known = match.any(axis=1)
        place = np.where(known, match.argmax(axis=1), columns.own_log[slots].argmin(axis=1))
        fresh, at = slots[~known], place[~known]
        columns.own_item[fresh, at] = items[~known]
        columns.own_log[fresh, at] = -np.inf
        columns.own_count[fresh, at] = 0
        columns.own_first_s[fresh, at] = seconds[~known]
        columns.own_last_s[fresh, at] = seconds[~known]
        now_log = (seconds / self.layout.own_half_life_s).astype(np.float32)
        columns.own_log[slots, place] = np.logaddexp2(columns.own_log[slots, place], now_log)
        columns.own_count[slots, place] += 1
        columns.own_last_s[slots, place] = np.maximum(columns.own_last_s[slots, place], seconds)

    def _write(self, slots: Slots, columns: Columns) -> None:
        for field in fields(Columns):
            getattr(self.columns, field.name)[slots] = getattr(columns, field.name)

    def _add(self, user_id: str, partition: int) -> int:
        if self._free:
            slot = self._free.pop()
        else:
            slot = len(self._users)
            self._users.append(user_id)
            if slot == len(self.columns.partition):
                self._grow()
        self._slots[partition][user_id] = slot
        self._users[slot] = user_id
        self._evicted.get(partition, {}).pop(user_id, None)
        self.columns.partition[slot] = partition
        return slot

    def _release(self, slot: int) -> None:
        del self._slots[int(self.columns.partition[slot])][self._users[slot]]
        self.columns.partition[slot] = -1
        self._free.append(slot)

    def _grow(self) -> None:
        for field in fields(Columns):
            old: NDArray[Any] = getattr(self.columns, field.name)
            more = _zeros(old, 2 * len(old))
            more[: len(old)] = old
            setattr(self.columns, field.name, more)


def bytes_per_user(layout: StateLayout, dims: int, state_dims: int) -> dict[str, int]:
    """Bytes of each column that one user takes in memory; the id and its place in the table come on top."""
    one = _blank(layout, dims, state_dims, 1)
    return {field.name: getattr(one, field.name).nbytes for field in fields(Columns)}


def _columns(columns: Columns) -> list[NDArray[Any]]:
    return [getattr(columns, field.name) for field in fields(Columns)]


def _zeros(column: NDArray[Any], n: int) -> NDArray[Any]:
    """Zeros [n, …] of a column's type and width."""
    return np.zeros((n, *column.shape[1:]), column.dtype)


def _blank(layout: StateLayout, dims: int, state_dims: int, n: int) -> Columns:
    return Columns(
        recurrent=np.zeros((n, state_dims), np.float32),
        vector=np.zeros((n, dims), np.float32),
        encoded_by=np.full(n, -1, np.int32),
        history_item=np.full((n, layout.history), -1, np.int32),
        history_type=np.zeros((n, layout.history), np.uint8),
        history_ts=np.zeros((n, layout.history), np.int64),
        observed=np.zeros(n, np.int64),
        last_ts=np.full(n, -1, np.int64),
        session=np.zeros(n, np.uint64),
        session_length=np.zeros(n, np.int32),
        own_item=np.full((n, layout.own_items), -1, np.int32),
        own_log=np.full((n, layout.own_items), -np.inf, np.float32),
        own_count=np.zeros((n, layout.own_items), np.float32),
        own_first_s=np.zeros((n, layout.own_items), np.int64),
        own_last_s=np.zeros((n, layout.own_items), np.int64),
        slate=np.full((n, layout.slate), -1, np.int32),
        slate_release=np.full(n, -1, np.int32),
        recent_event=np.zeros((n, layout.recent_events), np.uint64),
        seen=np.zeros(n, np.int64),
        partition=np.full(n, -1, np.int32),
        next_offset=np.zeros(n, np.int64),
        saved_at=np.full(n, -1, np.int64),
        dirty=np.zeros(n, np.bool_),
        touched=np.zeros(n, np.int64),
    )
