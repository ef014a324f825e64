"""User states: everything the ranker knows of its users, a record of fixed size each and lists in blocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.event_batch import BatchColumns
from anabranch.ranking.types import Floats, Mask, Positions, Rows, Slots
from anabranch.ranking.unnamed_items import FIRST_UNNAMED
from anabranch.ranking.user_state import block_pool, update, user_lists
from anabranch.ranking.user_state.block_pool import blocks_for, history_pool, long_term_pool
from anabranch.ranking.user_state.columns import (
    NOT_ENCODED,
    ActivityColumns,
    UserColumns,
    activity_of,
    blank_record,
    columns_of,
    record_type,
    slates_by_placement,
)
from anabranch.ranking.user_state.evicted_users import NOT_EVICTED, EvictedUsers
from anabranch.ranking.user_state.item_references import mark_items, renumber_items
from anabranch.ranking.user_state.layout import StateLayout
from anabranch.ranking.user_state.slot_index import NO_SLOT, SlotIndex, SlotKeys, UserKeys, user_keys
from anabranch.ranking.user_state.snapshot import UserSnapshots
from anabranch.ranking.user_state.user_lists import UserLists, UserMemory

NO_ITEMS: Rows = np.empty(0, np.int32)


class Evicted(NamedTuple):
    """Where the saved state of an evicted user is in the changelog."""

    user_id: str
    partition: int
    offset: int


class StateSnapshot(NamedTuple):
    """A copy of the states of n users."""

    columns: UserColumns
    """[n, …] `history_block` and `long_term_block` are undefined."""
    lists: UserLists


class UserStates:
    """All users' states, by slot; `columns` are arrays of all that has a fixed size.

    A user is in memory, evicted (the changelog has the state, and its offset is kept here), or new. A user belongs to
    one partition; if a producer spread a user's events over two, the user has a state in each.
    """

    def __init__(self, layout: StateLayout, dims: int, state_dims: int, capacity: int = 64) -> None:
        """`capacity` users fit before memory has to grow; memory that no user has needed yet is not resident."""
        capacity = max(capacity, 2)  # Numba would compile again for the columns of a single record
        self.layout = layout
        self._dims = (dims, state_dims)
        self._slots_used = 0
        """Slots from here on have never had a user."""
        self._free_slots: list[int] = []
        self._evicted: dict[int, EvictedUsers] = {}
        """By partition."""
        self._batches = 0
        self._records = np.zeros(capacity, record_type(layout, dims, state_dims))
        self._slot_index = SlotIndex(capacity)
        self.columns = columns_of(self._records)
        self._memory = UserMemory(
            activity_of(self.columns),
            history_pool(capacity * blocks_for(layout.history)),
            long_term_pool(capacity * blocks_for(layout.long_term_items)),
        )

    def __len__(self) -> int:
        return self._slots_used - len(self._free_slots)

    @property
    def activity(self) -> ActivityColumns:
        """The columns that compiled functions take."""
        return self._memory.columns

    @property
    def evicted(self) -> int:
        """Number of evicted users."""
        return sum(len(users) for users in self._evicted.values())

    @property
    def dims(self) -> tuple[int, int]:
        """d and S: the lengths of user vectors and of recurrent states."""
        return self._dims

    @property
    def nbytes(self) -> int:
        """Bytes of the records and blocks that were ever used."""
        records = self._slots_used * self._records.itemsize
        history, long_term = self._memory.history, self._memory.long_term
        return records + block_pool.allocated_bytes(history) + block_pool.allocated_bytes(long_term)

    def slots(self, user_ids: Iterable[str], partition: int | Iterable[int] = 0) -> Slots:
        """Slots [B] of the users of one partition, or of one each. New users get blank states."""
        users = user_keys(user_ids)
        partitions = _partitions(partition, len(users.hash))
        slots = self._slot_index.find(users, partitions, self._keys)
        new = np.flatnonzero(slots == NO_SLOT)
        if len(new):
            slots[new] = self._add_users(SlotKeys(users.hash[new], users.check[new], partitions[new]))
        return slots

    def slot_of(self, user_id: str, partition: int = 0) -> int | None:
        """The slot of a partition's user, or None if the user is not in memory."""
        slot = int(self._slot_index.find(user_keys([user_id]), _partitions(partition, 1), self._keys)[0])
        return None if slot == NO_SLOT else slot

    def mark_duplicates(self, events: BatchColumns) -> Mask:
        """See `update.mark_duplicate_actions`."""
        return update.mark_duplicate_actions(self._memory.columns, events)

    def apply_events(
        self, events: BatchColumns, duplicate: Mask, snapshot_at: Positions
    ) -> tuple[Floats, UserSnapshots]:
        """Apply the events [B] in order, except duplicates, see `update.apply_events`.

        Returns the seconds [B] since each user's previous event, and the users' states right after the events
        `snapshot_at` [A], without the vectors, which need the encoder.
        """
        snapshots = UserSnapshots.empty(len(snapshot_at), self._dims[0], self.layout)
        snapshot_row = np.full(len(events.slots), -1, np.int64)
        snapshot_row[snapshot_at] = np.arange(len(snapshot_at))
        elapsed_s = update.apply_events(self._memory, self.layout, events, duplicate, snapshot_row, snapshots)
        return elapsed_s, snapshots

    def snapshots(self, slots: Slots) -> UserSnapshots:
        """What ranking needs of the users in the slots [n] as they are now, without the vectors."""
        snapshots = UserSnapshots.empty(len(slots), self._dims[0], self.layout)
        update.take_snapshots(self._memory, slots, snapshots)
        return snapshots

    def set_last_slates(self, slot: int, slates: Mapping[str, Rows], release: int, explored: int = 0) -> None:
        """The user has been shown these slates [any length], by placement, by a release, the first placement's with so
        many explored places at its end; only what the layout has room for is kept."""
        size, first = self.layout.slate, self.layout.placements[0]
        self.columns.explored[slot] = explored_of_first(explored, len(slates.get(first, NO_ITEMS)), size)
        self.columns.slate[slot] = -1
        for name, column in slates_by_placement(self.columns.slate[slot], self.layout):
            slate = slates.get(name, NO_ITEMS)[:size]
            column[: len(slate)] = slate
        self.columns.slate_release[slot] = release

    def recent_items(self, slots: Slots, length: int) -> Rows:
        """The newest `length` items [B, length] of each history, newest first, -1 padded.

        The first `session_length` of them belong to the current session.
        """
        columns, lists = self.snapshot(slots)
        age = np.arange(min(length, self.layout.history))
        count = columns.event_count[:, None]
        items = np.take_along_axis(lists.history_item, (count - 1 - age) % self.layout.history, 1)
        return np.where(age < count, items, -1).astype(np.int32)

    def touch(self, slots: Slots) -> None:
        """The users are part of the newest batch, so they are not idle."""
        self._batches += 1
        self.columns.last_batch[slots] = self._batches

    def snapshot(self, slots: Slots) -> StateSnapshot:
        """A copy of the states in the slots [B]."""
        lists = UserLists.empty(len(slots), self.layout)
        user_lists.read_lists(self._memory, slots, lists)
        return StateSnapshot(columns_of(self._records[slots]), lists)

    def restore(self, slots: Slots, snapshot: StateSnapshot) -> None:
        """Undo all changes of the slots [B], distinct, since the snapshot, except to `saved_at` and `dirty`."""
        saved_at, dirty = self.columns.saved_at[slots], self.columns.dirty[slots]
        self.overwrite(slots, snapshot)
        self.columns.saved_at[slots], self.columns.dirty[slots] = saved_at, dirty

    def overwrite(self, slots: Slots, snapshot: StateSnapshot) -> None:
        """Copy a snapshot to the slots [B], distinct."""
        user_lists.free_lists(self._memory, slots)
        for column, values in _column_pairs(self.columns, snapshot.columns):
            column[slots] = values
        self.columns.history_block[slots] = self.columns.long_term_block[slots] = block_pool.NO_BLOCK
        user_lists.write_lists(self._memory, slots, snapshot.lists)

    def blank_columns(self, n: int) -> UserColumns:
        """Columns of n new users, apart from these states."""
        return columns_of(np.repeat(blank_record(self._records.dtype), n))

    def evictable(self, n: int) -> Slots:
        """Up to n slots whose states the changelog has as they are, of the users who have been idle for longest."""
        end, columns = self._slots_used, self.columns
        is_saved = (columns.partition[:end] >= 0) & (columns.saved_at[:end] >= 0) & ~columns.dirty[:end]
        slots = np.flatnonzero(is_saved)
        if n >= len(slots):
            return slots
        return slots[np.argpartition(columns.last_batch[slots], n)[:n]]

    def evict(self, slots: Slots) -> None:
        """Remove users from memory whose states are saved; `evicted_among` finds them."""
        columns = self.columns
        for partition in np.unique(columns.partition[slots]).tolist():
            of_partition = slots[columns.partition[slots] == partition]
            users = UserKeys(columns.user[of_partition], columns.user_check[of_partition])
            self._evicted.setdefault(partition, EvictedUsers()).add(users, columns.saved_at[of_partition])
        self.free_slots(slots)

    def evicted_among(self, user_ids: Iterable[str], partition: int) -> list[Evicted]:
        """The evicted users among a partition's users, each once. Their states must be loaded before they are used."""
        evicted = self._evicted.get(partition)
        if not evicted:
            return []
        distinct = list(dict.fromkeys(user_ids))
        offsets = evicted.find(user_keys(distinct)).tolist()
        return [
            Evicted(user_id, partition, offset)
            for user_id, offset in zip(distinct, offsets, strict=True)
            if offset != NOT_EVICTED
        ]

    def delete(self, user_id: str, partition: int) -> None:
        """Delete the user's state, whether it is in memory or evicted."""
        if partition in self._evicted:
            self._evicted[partition].remove(user_keys([user_id]))
        slot = self.slot_of(user_id, partition)
        if slot is not None:
            self.free_slots(np.array([slot]))

    def free_slots(self, slots: Slots) -> None:
        """Remove the users of the slots [B], distinct, from memory."""
        self._slot_index.remove(slots, self._keys)
        self.columns.partition[slots] = -1
        user_lists.free_lists(self._memory, slots)
        self._free_slots += slots.tolist()

    def drop_partition(self, partition: int) -> int:
        """Remove all users of a partition; returns how many of them were in memory."""
        self._evicted.pop(partition, None)
        slots = np.flatnonzero(self.columns.partition[: self._slots_used] == partition)
        self.free_slots(slots)
        return len(slots)

    def resize_vectors(self, dims: int, state_dims: int) -> None:
        """Prepare for an encoder with vectors of these lengths. If they change, no user is encoded any more."""
        if (dims, state_dims) == self._dims:
            return
        self._dims = (dims, state_dims)
        self._move_records(np.zeros(len(self._records), record_type(self.layout, dims, state_dims)))
        self.columns.encoded_by[:] = NOT_ENCODED

    def unnamed_in_use(self, end: int) -> Mask:
        """Which of the unnamed items [end - FIRST_UNNAMED] are in a user's lists or slate."""
        in_use = np.zeros(end - FIRST_UNNAMED, np.bool_)
        slots = np.flatnonzero(self.columns.partition[: self._slots_used] >= 0)
        mark_items(self._memory, slots, self.layout.history, FIRST_UNNAMED, in_use)
        return in_use

    def renumber_items(self, numbers: Rows, rows: Rows) -> None:
        """Unnamed items [n], with these numbers so far, have these rows from now on."""
        new = np.full(max(numbers.max(initial=0) + 1 - FIRST_UNNAMED, 0), -1, np.int32)
        new[numbers - FIRST_UNNAMED] = rows
        for column in (self.columns.slate, self.columns.shown_item, self.columns.disliked_item):
            renumber_items(column[: self._slots_used], FIRST_UNNAMED, new)
        for pool in (self._memory.history, self._memory.long_term):
            renumber_items(pool.item[: pool.free_list[1]], FIRST_UNNAMED, new)

    @property
    def _keys(self) -> SlotKeys:
        return SlotKeys(self.columns.user, self.columns.user_check, self.columns.partition)

    def _add_users(self, users: SlotKeys) -> Slots:
        """Slots [n] of new users [n], who may be repeated; none of them is evicted any more."""
        keys = list(zip(*(key.tolist() for key in users), strict=True))
        distinct = list(dict.fromkeys(keys))
        self._reserve(len(distinct))
        slot_by_key = {key: self._allocate_slot() for key in distinct}
        slots = np.array(list(slot_by_key.values()), np.int64)
        self._records[slots] = blank_record(self._records.dtype)
        self.columns.user[slots], self.columns.user_check[slots], self.columns.partition[slots] = zip(
            *distinct, strict=True
        )
        for partition, evicted in self._evicted.items():
            is_of_partition = users.partition == partition
            evicted.remove(UserKeys(users.user[is_of_partition], users.check[is_of_partition]))
        self._slot_index.insert(slots, self._keys)
        return np.array([slot_by_key[key] for key in keys], np.int64)

    def _reserve(self, slots: int) -> None:
        """Make room for so many slots, before any of them is allocated: the new hash table gets every slot in use, and
        one without a user would stand in it for nobody."""
        needed, capacity = self._slots_used + slots - len(self._free_slots), len(self._records)
        while capacity < needed:
            capacity *= 2
        if capacity > len(self._records):
            self._grow_to(capacity)

    def _allocate_slot(self) -> int:
        if self._free_slots:
            return self._free_slots.pop()
        self._slots_used += 1
        return self._slots_used - 1

    def _grow_to(self, capacity: int) -> None:
        layout = self.layout
        history = history_pool(capacity * blocks_for(layout.history))
        long_term = long_term_pool(capacity * blocks_for(layout.long_term_items))
        self._memory = UserMemory(
            self._memory.columns,
            block_pool.copy_pool(self._memory.history, history),
            block_pool.copy_pool(self._memory.long_term, long_term),
        )
        self._move_records(np.zeros(capacity, self._records.dtype))
        self._slot_index = SlotIndex(capacity)
        self._slot_index.insert(np.flatnonzero(self.columns.partition[: self._slots_used] >= 0), self._keys)

    def _move_records(self, records: NDArray[Any]) -> None:
        """Copy the records to others, at least as many; vectors only if their lengths are the same."""
        columns, n = columns_of(records), len(self._records)
        for old, new in _column_pairs(self.columns, columns):
            if old.shape[1:] == new.shape[1:]:
                new[:n] = old
        self._records, self.columns = records, columns
        self._memory = self._memory._replace(columns=activity_of(columns))


def explored_of_first(explored: int, size: int, kept: int) -> int:
    """How many of the first `kept` places of a slate of `size` are among its last `explored` ones."""
    return max(explored - max(size - kept, 0), 0)


def _partitions(partition: int | Iterable[int], n: int) -> NDArray[np.int32]:
    """The partition of each of n users."""
    if isinstance(partition, int):
        return np.full(n, partition, np.int32)
    return np.fromiter(partition, np.int32, n)


def _column_pairs(columns: UserColumns, others: UserColumns) -> Iterable[tuple[NDArray[Any], NDArray[Any]]]:
    return zip(columns, others, strict=True)
