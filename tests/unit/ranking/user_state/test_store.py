"""User states in memory, evicted and deleted, and what events do to them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from anabranch.ranking.event_batch import BatchColumns
from anabranch.ranking.user_state import store
from anabranch.ranking.user_state.slot_index import UserKeys
from anabranch.ranking.user_state.store import Evicted, UserStates
from tests.support.layouts import LAYOUT


@pytest.fixture
def states() -> UserStates:
    states = UserStates(LAYOUT, 4, 4)
    for index, user in enumerate(("ann", "bob", "cat")):
        slots = states.slots([user], 1)
        states.columns.saved_at[slots] = 10 + index
        states.touch(slots)
    return states


def test_users_who_have_been_idle_for_longest_are_evictable_first(states: UserStates) -> None:
    states.touch(states.slots(["ann"], 1))
    assert set(states.evictable(2)) == set(states.slots(["bob", "cat"], 1))
    assert len(states.evictable(99)) == 3


def test_a_state_that_has_changed_since_it_was_saved_is_not_evictable(states: UserStates) -> None:
    states.columns.dirty[states.slots(["bob"], 1)] = True
    states.slots(["never saved"], 1)
    assert set(states.evictable(99)) == set(states.slots(["ann", "cat"], 1))


def test_a_user_with_events_in_two_partitions_has_a_state_in_each(states: UserStates) -> None:
    first, second = states.slots(["ann"], 1), states.slots(["ann"], 2)
    assert first[0] != second[0]
    assert states.slots(["ann", "ann"], [1, 2]).tolist() == [first[0], second[0]]
    states.drop_partition(1)
    assert states.slot_of("ann", 1) is None
    assert states.slot_of("ann", 2) == second[0]


def test_an_evicted_user_has_an_offset_in_the_changelog(states: UserStates) -> None:
    states.evict(states.slots(["bob"], 1))
    assert (len(states), states.evicted) == (2, 1)
    assert states.evicted_among(["ann", "bob", "bob", "dan"], 1) == [Evicted("bob", 1, 11)]
    assert states.evicted_among(["bob"], 2) == []


def test_users_whose_ids_have_the_same_hash_have_states_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hashes of an id make its key. Here the first is the same for all."""

    def keys(user_ids: Iterable[str]) -> UserKeys:
        checks = [ord(user_id) for user_id in user_ids]
        return UserKeys(np.zeros(len(checks), np.int64), np.array(checks, np.uint16))

    monkeypatch.setattr(store, "user_keys", keys)
    states = UserStates(LAYOUT, 4, 4)
    slots = states.slots("abcabc", 1)
    assert len(set(slots[:3].tolist())) == 3
    assert slots[:3].tolist() == slots[3:].tolist()
    states.columns.saved_at[slots[:3]] = [10, 11, 12]
    states.evict(slots[:2])
    assert states.evicted_among("abc", 1) == [Evicted("a", 1, 10), Evicted("b", 1, 11)]
    states.delete("a", 1)
    assert states.evicted_among("abc", 1) == [Evicted("b", 1, 11)]
    assert states.slot_of("c", 1) == slots[2]


def test_a_user_who_returns_is_no_longer_evicted(states: UserStates) -> None:
    states.evict(states.slots(["bob"], 1))
    slot = states.slots(["bob"], 1)
    assert states.evicted == 0
    assert states.columns.saved_at[slot].tolist() == [-1], "blank, to be loaded"


def test_a_deleted_user_is_neither_in_memory_nor_evicted(states: UserStates) -> None:
    states.evict(states.slots(["bob"], 1))
    states.delete("bob", 1)
    states.delete("ann", 1)
    states.delete("nobody", 1)
    assert (len(states), states.evicted) == (1, 0)


def test_dropping_a_partition_drops_its_evicted_users_too(states: UserStates) -> None:
    states.slots(["eve"], 2)
    states.evict(states.slots(["bob"], 1))
    assert states.drop_partition(1) == 2
    assert (len(states), states.evicted) == (1, 0)
    assert states.slot_of("eve", 2) is not None


def test_slots_of_evicted_users_are_used_again(states: UserStates) -> None:
    capacity = len(states.columns.partition)
    for number in range(3 * capacity):
        slots = states.slots([f"user {number}"], 1)
        states.columns.saved_at[slots] = number
        states.evict(slots)
    assert len(states.columns.partition) == capacity
    assert states.evicted == 3 * capacity


def test_restoring_a_snapshot_keeps_what_is_known_of_saved_states(states: UserStates) -> None:
    slots = states.slots(["new"])
    before = states.snapshot(slots)
    states.columns.event_count[slots] = 3
    states.columns.saved_at[slots], states.columns.dirty[slots] = 7, True  # the batch before it was committed meanwhile
    states.restore(slots, before)
    assert states.columns.event_count[slots].tolist() == [0]
    assert (states.columns.saved_at[slots].tolist(), states.columns.dirty[slots].tolist()) == ([7], [True])


def test_a_slate_replaces_the_last_one(states: UserStates) -> None:
    slot = int(states.slots(["ann"], 1)[0])
    states.set_last_slates(slot, {"for_you": np.arange(30, dtype=np.int32)}, 3)
    states.set_last_slates(slot, {"for_you": np.array([7, 8], np.int32)}, 4)
    assert states.columns.slate[slot].tolist() == [7, 8] + [-1] * 18
    assert states.columns.slate_release[slot] == 4


@pytest.mark.parametrize(("size", "explored", "kept"), [(20, 3, 3), (7, 3, 3), (22, 3, 1), (23, 3, 0), (40, 10, 0)])
def test_a_slate_that_is_cut_keeps_the_explored_places_that_are_left(
    states: UserStates, size: int, explored: int, kept: int
) -> None:
    slot = int(states.slots(["ann"], 1)[0])
    states.set_last_slates(slot, {"for_you": np.arange(size, dtype=np.int32)}, 3, explored)
    assert states.columns.explored[slot] == kept


def apply_items(states: UserStates, user: str, items: list[int], first_s: int = 0) -> None:
    """The user has an event about each item, one per second."""
    n, slot = len(items), int(states.slots([user])[0])
    events = BatchColumns(
        slots=np.full(n, slot),
        items=np.array(items, np.int32),
        types=np.zeros(n, np.uint8),
        ts=1000 * np.arange(first_s, first_s + n),
        sessions=np.ones(n, np.uint64),
        keys=np.arange(n, dtype=np.uint64),
    )
    states.apply_events(events, duplicate=np.zeros(n, np.bool_), snapshot_at=np.empty(0, np.int64))


def long_term_of(states: UserStates, user: str) -> dict[int, tuple[float, int, int]]:
    """Count, first and last second of each long-term item."""
    slot = states.slots([user])
    lists, n = states.snapshot(slot).lists.long_term, int(states.columns.long_term_size[slot[0]])
    columns = (lists.item, lists.event_count, lists.first_s, lists.last_s)
    return {item: tuple(rest) for item, *rest in zip(*(column[0, :n].tolist() for column in columns), strict=True)}


def lists_of(states: UserStates, user: str) -> tuple[list[int], dict[int, tuple[float, int, int]]]:
    """The history, newest first, and the long-term items."""
    return states.recent_items(states.slots([user]), states.layout.history)[0].tolist(), long_term_of(states, user)


def test_events_that_leave_the_history_are_counted_in_the_long_term_items() -> None:
    states = UserStates(LAYOUT._replace(history=3), 4, 4)
    apply_items(states, "ann", [1, 2, 1, 3, 4, 5])
    assert states.recent_items(states.slots(["ann"]), 3).tolist() == [[5, 4, 3]]
    assert long_term_of(states, "ann") == {1: (2, 0, 2), 2: (1, 1, 1)}


def test_a_new_long_term_item_replaces_the_weakest_if_there_is_no_room() -> None:
    states = UserStates(LAYOUT._replace(history=1, long_term_items=2), 4, 4)
    apply_items(states, "ann", [1, 2, 1, 3, 9])
    assert set(long_term_of(states, "ann")) == {1, 3}


def test_a_layout_without_long_term_items_keeps_none() -> None:
    states = UserStates(LAYOUT._replace(history=1, long_term_items=0), 4, 4)
    apply_items(states, "ann", [1, 2, 3])
    assert long_term_of(states, "ann") == {}


def test_a_decayed_count_halves_with_every_half_life() -> None:
    states = UserStates(LAYOUT._replace(history=1, half_life_s=2), 4, 4)
    apply_items(states, "ann", [7, 7, 7, 7, 8])
    log2_count = states.snapshot(states.slots(["ann"])).lists.long_term.log2_decayed_count[0, 0]
    assert 2 ** (log2_count - 3 / 2) == pytest.approx(sum(0.5 ** (age / 2) for age in range(4)), rel=1e-6)


@pytest.mark.parametrize("history", [1, 7, 8, 9, 64])
def test_a_snapshot_restores_lists_of_any_length(history: int) -> None:
    states = UserStates(LAYOUT._replace(history=history, long_term_items=20), 4, 4, capacity=1)
    for user in range(40):
        apply_items(states, f"user {user}", list(range(3 * user)))
    users = [f"user {user}" for user in range(40)]
    slots = states.slots(users)
    snapshot, lists = states.snapshot(slots), [lists_of(states, user) for user in users]
    for user in users:
        apply_items(states, user, list(range(100)))
    states.restore(slots, snapshot)
    assert [lists_of(states, user) for user in users] == lists
    assert [recent for recent, _ in lists] == [newest_first(range(3 * user), history) for user in range(40)]


def newest_first(items: range, length: int) -> list[int]:
    newest = list(reversed(items))[:length]
    return newest + [-1] * (length - len(newest))


def test_blocks_of_evicted_users_are_used_again() -> None:
    states = UserStates(LAYOUT, 4, 4)
    sizes = set()
    for number in range(5):
        apply_items(states, f"user {number}", list(range(100)))
        slots = states.slots([f"user {number}"])
        states.columns.saved_at[slots] = number
        sizes.add(states.nbytes)
        states.evict(slots)
    assert len(sizes) == 1


def test_the_slot_index_has_one_entry_for_each_user_however_many_came_at_once() -> None:
    """It had one for nobody for each user who came before the table grew: 160,000 of 200,000 sessions, in one run of
    entries, through which a look-up went for 26 seconds."""
    states = UserStates(LAYOUT, 4, 4)
    slots = states.slots(f"u{number}" for number in range(5_000))
    assert len(np.unique(slots)) == 5_000
    assert np.count_nonzero(states._slot_index._entries) == 5_000
    np.testing.assert_array_equal(states.slots(f"u{number}" for number in range(5_000)), slots)
