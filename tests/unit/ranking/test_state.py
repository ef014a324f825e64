"""Users in memory, away and gone."""

from __future__ import annotations

import numpy as np
import pytest

from anabranch.ranking.state import Evicted, StateLayout, UserStates


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
    assert {states.user_at(slot) for slot in states.evictable(2).tolist()} == {"bob", "cat"}
    assert len(states.evictable(99)) == 3


def test_a_state_that_is_not_saved_as_it_is_stays_in_memory(states: UserStates) -> None:
    states.columns.dirty[states.slots(["bob"], 1)] = True
    states.slots(["never saved"], 1)
    assert {states.user_at(slot) for slot in states.evictable(99).tolist()} == {"ann", "cat"}


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
    states.put_back(slots, before)
    assert states.columns.observed[slots].tolist() == [0]
    assert (states.columns.saved_at[slots].tolist(), states.columns.dirty[slots].tolist()) == ([7], [True])


def test_showing_a_slate_replaces_the_one_before(states: UserStates) -> None:
    slot = int(states.slots(["ann"], 1)[0])
    states.show(slot, np.arange(30, dtype=np.int32), 3)
    states.show(slot, np.array([7, 8], np.int32), 4)
    assert states.columns.slate[slot].tolist() == [7, 8] + [-1] * 18
    assert states.columns.slate_release[slot] == 4
