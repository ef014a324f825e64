"""A replica has the user states that the rankers have, whatever of them is saved."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from anabranch import messages
from anabranch.kafka.records import OutboundRecord
from anabranch.messages import STATE_MARKER_KEY, Rebase, encode_binary
from anabranch.ranking.user_state.store import UserStates
from consumers.user_states.changelog import StateUnreadable
from consumers.user_states.state_owner import StatesOfOthers
from tests.support.ranker_world import CHECKPOINT_S, RankerProcess, RankerWorld, partition_of, purchases
from tests.support.replica_world import ReplicaProcess

USERS = [f"u{number}" for number in range(4)]
OF_THE_PROCESS = {"last_batch", "saved_at", "dirty", "slate", "slate_release", "explored", "user", "user_check"}
"""Columns that say nothing of the user, and the slates that only rankers have."""


def states_of(users: UserStates, user_id: str) -> dict[str, object]:
    """All that a user's state has, in a form that compares bit by bit."""
    slot = users.slot_of(user_id, partition_of(user_id))
    assert slot is not None
    columns, lists = users.snapshot(np.array([slot]))
    kept = {name: column for name, column in columns._asdict().items() if name not in OF_THE_PROCESS}
    blocks = {name: value for name, value in kept.items() if not name.endswith("_block")}
    arrays = blocks | lists._replace(long_term=None)._asdict() | lists.long_term._asdict()
    return {name: np.asarray(value).tobytes() for name, value in arrays.items() if value is not None}


def assert_equal_states(replica: ReplicaProcess, ranker: RankerProcess) -> None:
    assert len(replica.store.users) == len(ranker.store.users)
    for user_id in USERS:
        assert states_of(replica.store.users, user_id) == states_of(ranker.store.users, user_id), user_id


def test_states_are_those_of_the_ranker_to_the_last_bit(world: RankerWorld) -> None:
    ranker = world.rank(*purchases(40))
    replica = ReplicaProcess(world)
    replica.settle()
    assert_equal_states(replica, ranker)


def test_states_follow_the_events_after_the_restore(world: RankerWorld) -> None:
    ranker = world.rank(*purchases(20))
    replica = ReplicaProcess(world)
    replica.settle()
    world.send(*purchases(30, first=20))
    ranker.settle()
    replica.settle()
    assert_equal_states(replica, ranker)
    assert replica.metric("events_applied_total") == 50


def test_saved_states_are_loaded_and_only_the_events_after_them_applied(world: RankerWorld) -> None:
    ranker = world.rank(*purchases(40))
    ranker.stop()
    replica = ReplicaProcess(world)
    replica.settle()
    assert_equal_states(replica, ranker)
    assert replica.metric("events_applied_total") == 0


def test_an_event_that_a_saved_state_has_already_is_not_applied_again(world: RankerWorld) -> None:
    """The state is read from `user-state` before its events are read from `events`."""
    ranker = world.rank()
    replica = ReplicaProcess(world)
    replica.settle()
    take, replica.source.take = replica.source.take, lambda limit: []  # type: ignore[method-assign]
    world.send(*purchases(20))
    ranker.settle()
    ranker.stop()
    saved = [record for record in world.kafka.records(world.topics.user_state) if record.key]
    for record in saved:
        replica.replica.changelog.follow(record.partition, [record])
    replica.source.take = take  # type: ignore[method-assign]
    replica.settle()
    assert_equal_states(replica, ranker)


def test_a_state_that_is_saved_may_be_evicted_and_is_loaded_when_it_is_needed(world: RankerWorld) -> None:
    ranker = world.rank(*purchases(40, users=20))
    replica = ReplicaProcess(world, max_users=10)
    replica.settle()
    assert len(replica.store.users) == 20, "what the replica alone has is not forgotten"
    world.clock.advance(CHECKPOINT_S)
    ranker.turn(4)
    replica.settle()
    assert len(replica.store.users) <= 10
    slots = [replica.answering._users.slot(f"u{number}") for number in range(20)]
    assert None not in slots
    world.send(*purchases(20, users=20, first=40))
    ranker.settle()
    replica.settle()
    for number in range(20):
        replica.answering._users.slot(f"u{number}")
        assert states_of(replica.store.users, f"u{number}") == states_of(ranker.store.users, f"u{number}")


def test_a_user_whose_state_is_removed_from_the_topic_is_forgotten(world: RankerWorld) -> None:
    world.rank(*purchases(8)).stop()
    replica = ReplicaProcess(world)
    replica.settle()
    world.kafka.append(OutboundRecord(world.topics.user_state, b"u1", None, partition_of("u1")))
    replica.settle()
    assert replica.store.users.slot_of("u1", partition_of("u1")) is None
    assert replica.store.users.slot_of("u2", partition_of("u2")) is not None


def test_what_is_no_event_is_passed_over(world: RankerWorld) -> None:
    ranker = world.rank(*purchases(4))
    world.send_bytes(b"no event", "u1")
    world.send(*purchases(4, first=4))
    ranker.settle()
    replica = ReplicaProcess(world)
    replica.settle()
    assert_equal_states(replica, ranker)
    assert replica.replica.lags() == {0: 0, 1: 0}


def test_after_a_swap_users_are_encoded_by_the_new_release_as_the_ranker_does(world: RankerWorld) -> None:
    ranker = world.rank(*purchases(20))
    replica = ReplicaProcess(world)
    replica.settle()
    ranker.go_live("r2")
    replica.go_live("r2")
    ranker.settle()
    replica.settle()
    world.send(*purchases(20, first=20))
    ranker.settle()
    replica.settle()
    assert_equal_states(replica, ranker)


def test_a_log_that_lost_what_comes_next_is_read_from_its_states_again(world: RankerWorld) -> None:
    ranker = world.rank(*purchases(20))
    replica = ReplicaProcess(world)
    replica.settle()
    world.send(*purchases(40, first=20))
    ranker.settle()
    ranker.stop()
    for partition in (0, 1):
        world.kafka.trim(world.topics.events, partition, 20)
    replica.settle()
    assert len(replica.source.starts) == 2
    assert_equal_states(replica, ranker)


def test_it_is_ready_once_the_states_are_restored_and_the_logs_read(world: RankerWorld) -> None:
    world.rank(*purchases(40))
    replica = ReplicaProcess(world, release=None, ready_max_lag=0)
    replica.replica.run_once()
    assert replica.replica.waits_for == "waiting for a live release"
    replica.go_live("r1")
    replica.replica.run_once()
    assert "restoring user states" in str(replica.replica.waits_for)
    while not replica.replica.is_following:
        replica.replica.run_once()
    assert "behind the end" in str(replica.replica.waits_for)
    replica.settle()
    assert replica.metrics.loop.not_ready is None


def test_states_of_another_installation_are_refused(world: RankerWorld) -> None:
    world.rank(*purchases(8)).stop()
    replica = ReplicaProcess(world, ranker_group="others")
    with pytest.raises(StatesOfOthers, match="ranker group"):
        replica.settle()


def test_a_state_that_nobody_can_read_ends_the_replica(world: RankerWorld) -> None:
    world.rank(*purchases(8)).stop()
    replica = ReplicaProcess(world)
    replica.settle()
    world.kafka.append(OutboundRecord(world.topics.user_state, b"u1", b"no state", partition_of("u1")))
    with pytest.raises(StateUnreadable):
        replica.settle()


def test_freshness_is_the_age_of_the_newest_event_only_while_events_wait(world: RankerWorld) -> None:
    world.rank(*purchases(8))
    replica = ReplicaProcess(world)
    replica.settle()
    assert replica.replica.freshness_ms() == 0
    world.send(*purchases(1, first=8))
    world.clock.advance(2)
    assert replica.replica.freshness_ms() > 2_000


def test_freshness_is_not_zero_while_no_event_is_applied_yet(world: RankerWorld) -> None:
    world.rank(*purchases(8))
    replica = ReplicaProcess(world)
    while not replica.replica.is_following:
        replica.replica.run_once()
    world.clock.advance(3)
    assert replica.replica.freshness_ms() >= 3_000


def test_while_events_is_another_topic_than_the_states_are_about_nothing_is_answered_from_them(
    world: RankerWorld,
) -> None:
    """Until a ranker has decided how to go on, and its marker says so."""
    world.rank(*purchases(20)).stop()
    replica = ReplicaProcess(world)
    replica.settle()
    world.kafka.recreate(world.topics.events)
    for _ in range(20):
        world.clock.advance(1)
        replica.replica.run_once()
    assert not replica.replica.is_following
    world.kafka.committed.clear()
    ranker = world.process(on_lost_events="continue")
    world.send(*purchases(8, first=20))
    ranker.settle()
    ranker.stop()
    replica.settle()
    assert_equal_states(replica, ranker)


def test_a_marker_that_says_that_the_log_was_replaced_makes_it_restore_again(world: RankerWorld) -> None:
    world.rank(*purchases(8)).stop()
    replica = ReplicaProcess(world)
    replica.settle()
    records = world.kafka.records(world.topics.user_state)
    markers = [record.value for record in records if record.key == STATE_MARKER_KEY and record.partition == 0]
    marker = messages.state_markers.decode(markers[-1])
    replaced = msgspec.structs.replace(marker, rebases=[Rebase(0, 0, 0)])
    world.kafka.append(OutboundRecord(world.topics.user_state, STATE_MARKER_KEY, encode_binary(replaced), 0))
    replica.settle()
    assert len(replica.source.starts) == 2
