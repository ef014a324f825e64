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


def test_the_idlest_are_those_no_batch_has_had_for_longest(states: UserStates) -> None:
    states.touch(states.slots(["ann"]))
    idlest = {states.user_at(slot) for slot in states.idlest(2).tolist()}
    assert idlest == {"bob", "cat"}
    assert len(states.idlest(99)) == 3


def test_an_evicted_user_is_away_and_the_log_has_the_state(states: UserStates) -> None:
    states.evict(states.slots(["bob"]))
    assert (len(states), states.evicted) == (2, 1)
    assert states.away(["ann", "bob", "bob", "dan"], 1) == [Evicted("bob", 1, 11)]
    assert states.away(["bob"], 2) == []


def test_a_user_who_came_back_is_no_longer_away(states: UserStates) -> None:
    states.evict(states.slots(["bob"]))
    slot = states.slots(["bob"], 1)
    assert states.evicted == 0
    assert states.columns.saved_at[slot].tolist() == [-1], "blank, to be loaded"


def test_a_forgotten_user_is_neither_in_memory_nor_away(states: UserStates) -> None:
    states.evict(states.slots(["bob"]))
    states.forget("bob", 1)
    states.forget("ann", 1)
    states.forget("nobody", 1)
    assert (len(states), states.evicted) == (1, 0)


def test_a_dropped_partition_takes_those_away_with_it(states: UserStates) -> None:
    states.slots(["eve"], 2)
    states.evict(states.slots(["bob"]))
    assert states.drop_partition(1) == 2
    assert (len(states), states.evicted) == (1, 0)
    assert states.slot_of("eve") is not None


def test_slots_of_those_evicted_are_given_to_others(states: UserStates) -> None:
    capacity = len(states.columns.partition)
    for round_ in range(3 * capacity):
        slots = states.slots([f"user {round_}"], 1)
        states.columns.saved_at[slots] = round_
        states.evict(slots)
    assert len(states.columns.partition) == capacity
    assert states.evicted == 3 * capacity


def test_showing_a_slate_replaces_the_one_before(states: UserStates) -> None:
    slot = int(states.slots(["ann"])[0])
    states.show(slot, np.arange(30, dtype=np.int32), 3)
    states.show(slot, np.array([7, 8], np.int32), 4)
    assert states.columns.slate[slot].tolist() == [7, 8] + [-1] * 18
    assert states.columns.slate_release[slot] == 4
