"""Users in memory, away and gone."""

from __future__ import annotations

import numpy as np
import pytest

from anabranch.ranking.user_state.store import Evicted, StateLayout, UserStates


@pytest.fixture
def states() -> UserStates:
    states = UserStates(StateLayout(), 4, 4)
    for at, user in enumerate(("ann", "bob", "cat")):
        slots = states.slots([user], 1)
        states.columns.saved_at[slots] = 10 + at
        states.touch(slots)
    return states


def test_those_no_batch_has_had_for_longest_are_evictable_first(states: UserStates) -> None:
    states.touch(states.slots(["ann"], 1))
    assert set(states.evictable(2)) == set(states.slots(["bob", "cat"], 1))
    assert len(states.evictable(99)) == 3


def test_a_state_that_is_not_saved_as_it_is_stays_in_memory(states: UserStates) -> None:
    states.columns.dirty[states.slots(["bob"], 1)] = True
    states.slots(["never saved"], 1)
    assert set(states.evictable(99)) == set(states.slots(["ann", "cat"], 1))


def test_a_user_whose_events_stand_in_two_partitions_has_a_state_in_each(states: UserStates) -> None:
    here, there = states.slots(["ann"], 1), states.slots(["ann"], 2)
    assert here[0] != there[0]
    assert states.slots(["ann", "ann"], [1, 2]).tolist() == [here[0], there[0]]
    states.drop_partition(1)
    assert states.slot_of("ann", 1) is None
    assert states.slot_of("ann", 2) == there[0]


def test_an_evicted_user_is_away_and_the_log_has_the_state(states: UserStates) -> None:
    states.evict(states.slots(["bob"], 1))
    assert (len(states), states.evicted) == (2, 1)
    assert states.away(["ann", "bob", "bob", "dan"], 1) == [Evicted("bob", 1, 11)]
    assert states.away(["bob"], 2) == []


def test_a_user_who_came_back_is_no_longer_away(states: UserStates) -> None:
    states.evict(states.slots(["bob"], 1))
    slot = states.slots(["bob"], 1)
    assert states.evicted == 0
    assert states.columns.saved_at[slot].tolist() == [-1], "blank, to be loaded"


def test_a_forgotten_user_is_neither_in_memory_nor_away(states: UserStates) -> None:
    states.evict(states.slots(["bob"], 1))
    states.forget("bob", 1)
    states.forget("ann", 1)
    states.forget("nobody", 1)
    assert (len(states), states.evicted) == (1, 0)


def test_a_dropped_partition_takes_those_away_with_it(states: UserStates) -> None:
    states.slots(["eve"], 2)
    states.evict(states.slots(["bob"], 1))
    assert states.drop_partition(1) == 2
    assert (len(states), states.evicted) == (1, 0)
    assert states.slot_of("eve", 2) is not None


def test_slots_of_those_evicted_are_given_to_others(states: UserStates) -> None:
    capacity = len(states.columns.partition)
    for round_ in range(3 * capacity):
        slots = states.slots([f"user {round_}"], 1)
        states.columns.saved_at[slots] = round_
        states.evict(slots)
    assert len(states.columns.partition) == capacity
    assert states.evicted == 3 * capacity


def test_undoing_a_batch_leaves_what_is_known_of_saved_forms(states: UserStates) -> None:
    slots = states.slots(["new"])
    before = states.copy(slots)
    states.columns.observed[slots] = 3
    states.columns.saved_at[slots], states.columns.dirty[slots] = 7, True  # the batch before it was committed meanwhile
    states.restore(slots, before)
    assert states.columns.observed[slots].tolist() == [0]
    assert (states.columns.saved_at[slots].tolist(), states.columns.dirty[slots].tolist()) == ([7], [True])


def test_showing_a_slate_replaces_the_one_before(states: UserStates) -> None:
    slot = int(states.slots(["ann"], 1)[0])
    states.show(slot, np.arange(30, dtype=np.int32), 3)
    states.show(slot, np.array([7, 8], np.int32), 4)
    assert states.columns.slate[slot].tolist() == [7, 8] + [-1] * 18
    assert states.columns.slate_release[slot] == 4


def observed(states: UserStates, user: str, items: list[int], first_s: int = 0) -> None:
    """The user has had the items, one a second."""
    n, slot = len(items), int(states.slots([user])[0])
    states.observe(
        np.full(n, slot),
        np.array(items, np.int32),
        np.zeros(n, np.uint8),
        1000 * np.arange(first_s, first_s + n),
        np.ones(n, np.uint64),
        duplicate=np.zeros(n, np.bool_),
        asked=np.empty(0, np.int64),
    )


def own_before(states: UserStates, user: str) -> dict[int, tuple[float, int, int]]:
    """Count, first and last second of the user's items of before the history."""
    slot = states.slots([user])
    lists, n = states.copy(slot).lists, int(states.columns.own_size[slot[0]])
    values = (lists.own_item, lists.own_count, lists.own_first_s, lists.own_last_s)
    return {item: tuple(rest) for item, *rest in zip(*(one[0, :n].tolist() for one in values), strict=True)}


def test_what_the_history_has_no_room_for_is_counted_among_the_own_items() -> None:
    states = UserStates(StateLayout(history=3), 4, 4)
    observed(states, "ann", [1, 2, 1, 3, 4, 5])
    assert states.recent(states.slots(["ann"]), 3).tolist() == [[5, 4, 3]]
    assert own_before(states, "ann") == {1: (2, 0, 2), 2: (1, 1, 1)}


def test_a_decayed_count_halves_with_every_half_life() -> None:
    states = UserStates(StateLayout(history=1, own_half_life_s=2), 4, 4)
    observed(states, "ann", [7, 7, 7, 7, 8])
    log = states.copy(states.slots(["ann"])).lists.own_log[0, 0]
    assert 2 ** (log - 3 / 2) == pytest.approx(sum(0.5 ** (age / 2) for age in range(4)), rel=1e-6)


@pytest.mark.parametrize("history", [1, 7, 8, 9, 64])
def test_lists_of_any_length_are_copied_and_put_back(history: int) -> None:
    states = UserStates(StateLayout(history=history, own_items=20), 4, 4, room=1)
    for user in range(40):
        observed(states, f"user {user}", list(range(3 * user)))
    slots = states.slots([f"user {user}" for user in range(40)])
    before = states.copy(slots)
    for user in range(40):
        observed(states, f"user {user}", list(range(100)))
    states.restore(slots, before)
    assert all(map(np.array_equal, states.copy(slots).lists, before.lists))
    for user in range(1, 40):
        newest = list(reversed(range(3 * user)))[:history]
        assert states.recent(slots[user : user + 1], history)[0, : len(newest)].tolist() == newest


def test_pages_of_those_evicted_are_given_to_others() -> None:
    states = UserStates(StateLayout(), 4, 4)
    sizes = set()
    for round_ in range(5):
        observed(states, f"user {round_}", list(range(100)))
        slots = states.slots([f"user {round_}"])
        states.columns.saved_at[slots] = round_
        sizes.add(states.nbytes)
        states.evict(slots)
    assert len(sizes) == 1
