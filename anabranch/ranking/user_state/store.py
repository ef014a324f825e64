"""User states: everything the ranker keeps of its users, one record a user and lists of any length in pages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.types import Positions, Rows, Slots
from anabranch.ranking.user_state import block_pool, update
from anabranch.ranking.user_state.block_pool import NO_BLOCK, BlockLists, history_pool, own_items_pool, pages_for
from anabranch.ranking.user_state.slot_index import NO_SLOT, SlotIndex, SlotKeys, hashes
from anabranch.ranking.user_state.snapshot import UserSnapshots
from anabranch.ranking.user_state.update import Observed
from anabranch.settings import Settings

Records = NDArray[Any]
"""[n] of the type that `_record_type` says."""

NOT_ENCODED = -1
"""`encoded_by` of a user without a vector."""
WEEK_S = 7 * 24 * 3600


@dataclass(frozen=True)
class StateLayout:
    """How much is kept per user, so that memory has a bound."""

    history: int = 64
    """Newest events kept in the ring."""
    own_items: int = 128
    """Items of before that with decayed counts; the weakest makes room."""
    slate: int = 20
    recent_events: int = 16
    """Event ids remembered to tell duplicates."""
    own_half_life_s: int = 8 * WEEK_S

    @classmethod
    def from_settings(cls, settings: Settings) -> StateLayout:
        """As the settings say."""
        return cls(
            history=settings.history_length,
            own_items=settings.own_items,
            slate=settings.slate_size,
            recent_events=settings.dedupe_window,
        )


class UserColumns(NamedTuple):
    """The users' records by field, all [slots, …]. A new user's slot is what `_blank` says; one nobody has had yet is
    all zeros."""

    recurrent: NDArray[np.float16]
    """[n, S] the encoder's recurrent state. Half of float32's memory, and no purchase is foretold worse."""
    vector: NDArray[np.float16]
    """[n, d] the user vector."""
    encoded_by: NDArray[np.int32]
    """[n] number of the release that made `recurrent` and `vector`, -1: none. If that is not the live one, they are
    rebuilt at first touch."""
    observed: NDArray[np.int64]
    """This and the next six: see `Observed`."""
    last_ts: NDArray[np.int64]
    session: NDArray[np.uint64]
    session_length: NDArray[np.int32]
    history_page: NDArray[np.int32]
    own_page: NDArray[np.int32]
    own_size: NDArray[np.int32]
    slate: Rows
    """[n, slate] the last slate shown, -1 padded."""
    slate_release: NDArray[np.int32]
    """[n] number of the release that made the slate, -1: none was shown."""
    recent_event: NDArray[np.uint64]
    """[n, recent] ring of event id hashes; `seen % recent` is written next."""
    seen: NDArray[np.int64]
    user: NDArray[np.int64]
    """[n] hash of the user's id: what is ahead of its saved form is known by name to `consumers.ranker.checkpoint`."""
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


class StateSnapshot(NamedTuple):
    """The states of n users, apart from the memory they came from."""

    columns: UserColumns
    """Their pages mean nothing here."""
    lists: BlockLists


class UserStates:
    """All users' states. What is of one size is reached as arrays by slot, attributes of `columns`.

    A user is in memory, evicted (the log has the state, and this remembers where), or new. Users belong to a partition:
    one whose events some producer spread over two has a state in each.
    """

    def __init__(self, layout: StateLayout, dims: int, state_dims: int, room: int = 64) -> None:
        """Address space for `room` users is taken at once, memory only as they come: zeros cost none until written."""
        self.layout = layout
        self._end = 0
        """Slots from there on nobody has ever had."""
        self._free: list[int] = []
        self._evicted: dict[int, dict[int, int]] = {}
        """Offset in the log of states by user's hash, by partition."""
        self._batches = 0
        self._dims = (dims, state_dims)
        room = max(room, 2)  # a field of a single record would be of another type to what is compiled
        self._records = np.zeros(room, _record_type(layout, dims, state_dims))
        self._table = SlotIndex(room)
        self._history = history_pool(room * pages_for(layout.history))
        self._own = own_items_pool(room * pages_for(layout.own_items))
        self.columns = _columns(self._records)

    def __len__(self) -> int:
        return self._end - len(self._free)

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
        """Bytes of all records and pages, as far as users have ever filled them."""
        records = self._end * self._records.itemsize
        return records + block_pool.bytes_taken(self._history) + block_pool.bytes_taken(self._own)

    def slots(self, user_ids: Iterable[str], partition: int | Iterable[int] = 0) -> Slots:
        """Slots [B] of the users, new ones where needed, blank and marked with the partition."""
        users = hashes(user_ids)
        partitions = _homes(partition, len(users))
        slots = self._table.find(users, partitions, self._keys)
        new = np.flatnonzero(slots == NO_SLOT)
        if len(new):
            slots[new] = self._add(users[new], partitions[new])
        return slots

    def slot_of(self, user_id: str, partition: int = 0) -> int | None:
        """The slot of a partition's user, or None for a user not in memory."""
        slot = int(self._table.find(hashes([user_id]), _homes(partition, 1), self._keys)[0])
        return None if slot == NO_SLOT else slot

    def touch(self, slots: Slots) -> None:
        """The users are part of a batch: they are not idle."""
        self._batches += 1
        self.columns.touched[slots] = self._batches

    def copy(self, slots: Slots) -> StateSnapshot:
        """What the slots [B] hold now, to be put back should the batch come to nothing."""
        columns = _columns(self._records[slots])
        lists = BlockLists.blank(len(slots), self.layout.history, self.layout.own_items)
        block_pool.read(
            self._history,
            self._own,
            np.ascontiguousarray(columns.history_page),
            np.ascontiguousarray(columns.own_page),
            self._history_sizes(columns),
            np.ascontiguousarray(columns.own_size),
            lists,
        )
        return StateSnapshot(columns, lists)

    def restore(self, slots: Slots, copy: StateSnapshot) -> None:
        """Undo whatever happened to the slots [B] since the copy, but for what is known of their saved forms."""
        saved_at, dirty = self.columns.saved_at[slots], self.columns.dirty[slots]
        self.put(slots, copy)
        self.columns.saved_at[slots], self.columns.dirty[slots] = saved_at, dirty

    def put(self, slots: Slots, copy: StateSnapshot) -> None:
        """Make the slots [B], all distinct, what the copy holds."""
        self._empty_lists(slots)
        for column, theirs in _pairs(self.columns, copy.columns):
            column[slots] = theirs
        history_page, own_page = np.full((2, len(slots)), NO_BLOCK, np.int32)
        block_pool.write(
            self._history,
            self._own,
            history_page,
            own_page,
            self._history_sizes(copy.columns),
            np.ascontiguousarray(copy.columns.own_size),
            copy.lists,
        )
        self.columns.history_page[slots], self.columns.own_page[slots] = history_page, own_page

    def blank_columns(self, n: int) -> UserColumns:
        """Of n new users who are nowhere yet."""
        return _columns(np.repeat(_blank(self._records.dtype), n))

    def show(self, slot: int, slate: Rows, release: int) -> None:
        """The user has been shown a slate, which that release made; what the layout has no room for is left out."""
        kept = slate[: self.layout.slate]
        self.columns.slate[slot] = -1
        self.columns.slate[slot, : len(kept)] = kept
        self.columns.slate_release[slot] = release

    def evictable(self, n: int) -> Slots:
        """Up to n slots whose states the log has as they are, of the users who were idle for longest."""
        end = self._end
        columns = self.columns
        saved = (columns.partition[:end] >= 0) & (columns.saved_at[:end] >= 0) & ~columns.dirty[:end]
        slots = np.flatnonzero(saved)
        if n >= len(slots):
            return slots
        return slots[np.argpartition(columns.touched[slots], n)[:n]]

    def evict(self, slots: Slots) -> None:
        """Let go of users whose saved state is up to date; `away` tells where it stands."""
        columns = self.columns
        evicted = (columns.user[slots].tolist(), columns.partition[slots].tolist(), columns.saved_at[slots].tolist())
        for user, partition, saved_at in zip(*evicted, strict=True):
            self._evicted.setdefault(partition, {})[user] = saved_at
        self.release(slots)

    def away(self, user_ids: Iterable[str], partition: int) -> list[Evicted]:
        """Those of a partition's users who were evicted, each once: before use, their states must be loaded."""
        evicted = self._evicted.get(partition)
        if not evicted:
            return []
        return [Evicted(one, partition, evicted[hash(one)]) for one in dict.fromkeys(user_ids) if hash(one) in evicted]

    def forget(self, user_id: str, partition: int) -> None:
        """The user has no state any more, in memory or away."""
        self._evicted.get(partition, {}).pop(hash(user_id), None)
        slot = self.slot_of(user_id, partition)
        if slot is not None:
            self.release(np.array([slot]))

    def release(self, slots: Slots) -> None:
        """Forget the users who have the slots [B], all distinct."""
        self._table.remove(slots, self._keys)
        self.columns.partition[slots] = -1
        self._empty_lists(slots)
        self._free += slots.tolist()

    def drop_partition(self, partition: int) -> int:
        """Forget the users of a partition that moved away; how many were in memory."""
        self._evicted.pop(partition, None)
        gone = np.flatnonzero(self.columns.partition[: self._end] == partition)
        self.release(gone)
        return len(gone)

    def expect(self, dims: int, state_dims: int) -> None:
        """Make room for the vectors of another release's encoder, if they are of other sizes."""
        if (dims, state_dims) == self._dims:
            return
        self._dims = (dims, state_dims)
        self._move(np.zeros(len(self._records), _record_type(self.layout, dims, state_dims)))
        self.columns.encoded_by[:] = -1

    def seen_before(self, slots: Slots, keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which of the events [B], in order, are among their user's last `recent_events`; remembers the others."""
        return update.mark_duplicates(self.columns.recent_event, self.columns.seen, slots, keys)

    def observe(
        self,
        slots: Slots,
        items: Rows,
        types: NDArray[np.uint8],
        ts: NDArray[np.int64],
        sessions: NDArray[np.uint64],
        duplicate: NDArray[np.bool_],
        asked: Positions,
    ) -> tuple[NDArray[np.float32], UserSnapshots]:
        """Enter events [B] in order, but for the duplicates: session, clock, history and own items; see `observing`.

        Seconds [B] since each user's event before, and what the states were right after the events `asked` [A], but for
        the vectors, which wait for the encoder.
        """
        layout = self.layout
        queries = UserSnapshots.blank(len(asked), self._dims[0], layout.history, layout.own_items)
        row = np.full(len(slots), -1, np.int64)
        row[asked] = np.arange(len(asked))
        since = update.observe(
            Observed(*(getattr(self.columns, name) for name in Observed._fields)),
            self._history,
            self._own,
            slots,
            items,
            types,
            ts,
            sessions,
            duplicate,
            layout.history,
            layout.own_items,
            layout.own_half_life_s,
            row,
            queries,
        )
        return since, queries

    def recent(self, slots: Slots, length: int) -> Rows:
        """The newest `length` items [B, length] of each history, newest first, -1 padded.

        The first `session_length` of them are of the current session.
        """
        copied = self.copy(slots)
        age = np.arange(min(length, self.layout.history))
        observed = copied.columns.observed[:, None]
        items = np.take_along_axis(copied.lists.history_item, (observed - 1 - age) % self.layout.history, 1)
        return np.where(age < observed, items, -1).astype(np.int32)

    @property
    def _keys(self) -> SlotKeys:
        return SlotKeys(self.columns.user, self.columns.partition)

    def _add(self, users: NDArray[np.int64], partitions: NDArray[np.int32]) -> Slots:
        """Slots [n] for those who have none [n], who may be named more than once."""
        keys = list(zip(users.tolist(), partitions.tolist(), strict=True))
        made = {key: self._take() for key in dict.fromkeys(keys)}
        slots = np.array(list(made.values()), np.int64)
        self._records[slots] = _blank(self._records.dtype)
        for slot, (user, partition) in zip(slots.tolist(), made, strict=True):
            self.columns.user[slot], self.columns.partition[slot] = user, partition
            self._evicted.get(partition, {}).pop(user, None)
        self._table.enter(slots, self._keys)
        return np.array([made[key] for key in keys], np.int64)

    def _take(self) -> int:
        if self._free:
            return self._free.pop()
        if self._end == len(self._records):
            self._grow()
        self._end += 1
        return self._end - 1

    def _empty_lists(self, slots: Slots) -> None:
        """Give the pages of the slots [B] back."""
        columns = self.columns
        for pool, column in ((self._history, columns.history_page), (self._own, columns.own_page)):
            first = column[slots]
            block_pool.give_back(pool.following, pool.spare, first)
            column[slots] = first

    def _history_sizes(self, columns: UserColumns) -> NDArray[np.int64]:
        sizes: NDArray[np.int64] = np.minimum(columns.observed, self.layout.history)
        return sizes

    def _grow(self) -> None:
        room = 2 * len(self._records)
        self._move(np.zeros(room, self._records.dtype))
        self._history = block_pool.moved(self._history, history_pool(room * pages_for(self.layout.history)))
        self._own = block_pool.moved(self._own, own_items_pool(room * pages_for(self.layout.own_items)))
        self._table = SlotIndex(room)
        self._table.enter(np.flatnonzero(self.columns.partition[: self._end] >= 0), self._keys)

    def _move(self, records: Records) -> None:
        """Into other records, of no fewer users; vectors only if they have the same sizes."""
        columns, n = _columns(records), len(self._records)
        for old, new in _pairs(self.columns, columns):
            if old.shape[1:] == new.shape[1:]:
                new[:n] = old
        self._records, self.columns = records, columns


def record_bytes(layout: StateLayout, dims: int, state_dims: int) -> dict[str, int]:
    """Bytes of each field of a user's record, and of what fills it up to a whole number of words."""
    kind = _record_type(layout, dims, state_dims)
    fields = {name: kind[name].itemsize for name in UserColumns._fields}
    return fields | {"padding": kind.itemsize - sum(fields.values())}


def list_bytes(history: NDArray[np.int64], own_items: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bytes [n] of the pages of users with so many events [n] in their histories and own items [n] of before."""
    of_history, of_own = block_pool.page_bytes(history_pool(1)), block_pool.page_bytes(own_items_pool(1))
    return pages_for(history) * of_history + pages_for(own_items) * of_own


def _record_type(layout: StateLayout, dims: int, state_dims: int) -> np.dtype[Any]:
    return np.dtype(
        [
            ("recurrent", "f2", (state_dims,)),
            ("vector", "f2", (dims,)),
            ("slate", "i4", (layout.slate,)),
            ("recent_event", "u8", (layout.recent_events,)),
            *((name, "i8") for name in ("observed", "last_ts", "seen", "next_offset", "saved_at", "touched")),
            ("session", "u8"),
            ("user", "i8"),
            *((name, "i4") for name in ("encoded_by", "session_length", "slate_release", "partition")),
            *((name, "i4") for name in ("history_page", "own_page", "own_size")),
            ("dirty", "?"),
        ],
        align=True,
    )


def _columns(records: Records) -> UserColumns:
    return UserColumns(*(records[name] for name in UserColumns._fields))


def ring_places(total: NDArray[np.int64], size: int) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which of `size` places [B, size] hold something, and where in the ring each stands, oldest first."""
    kept = np.minimum(total, size)[:, None]
    age = np.arange(size)
    return age < kept, (total[:, None] - kept + age) % size


def _homes(partition: int | Iterable[int], n: int) -> NDArray[np.int32]:
    """The partition of each of n users."""
    if isinstance(partition, int):
        return np.full(n, partition, np.int32)
    return np.fromiter(partition, np.int32, n)


def _pairs(some: UserColumns, others: UserColumns) -> Iterable[tuple[NDArray[Any], NDArray[Any]]]:
    return zip(some, others, strict=True)


def _blank(kind: np.dtype[Any]) -> Records:
    """A record [1] of a new user: zeros, but for what says that there is none."""
    blank = np.zeros(1, kind)
    for name in ("last_ts", "encoded_by", "slate", "slate_release", "partition", "saved_at"):
        blank[name] = -1
    blank["history_page"] = blank["own_page"] = NO_BLOCK
    return blank
