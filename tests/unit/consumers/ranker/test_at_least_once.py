"""`processing_guarantee = "at_least_once"`: outputs may be published twice, user states are as with exactly once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from anabranch.kafka.records import OutboundRecord
from tests.support.in_memory_kafka import Outcome
from tests.support.ranker_world import RankerProcess, RankerWorld, purchases


@pytest.fixture
def world(tmp_path: Path) -> RankerWorld:
    """States are saved with every batch."""
    return RankerWorld(tmp_path, processing_guarantee="at_least_once", checkpoint_ms=0)


def start(world: RankerWorld) -> RankerProcess:
    """A ranker that has ranked the first half of its events, and saved its states."""
    process = world.process()
    world.send(*purchases(24))
    process.settle()
    process.turn(3)  # the states of the last batch are saved
    world.send(*purchases(24, first=24))
    return process


def test_without_any_failure_every_event_is_ranked_once(world: RankerWorld) -> None:
    process = start(world)
    world.assert_at_least_once(process)
    assert len(world.rankings()) == 48


def test_outputs_are_visible_before_states_and_offsets_are_committed(world: RankerWorld) -> None:
    process = start(world)
    seen: list[tuple[int, int]] = []
    process.publisher.before_commit = lambda: seen.append((len(world.rankings()), sum(world.kafka.committed.values())))
    process.turn(2)
    assert seen == [(28, 24)]


def test_a_member_that_the_group_replaced_overwrites_no_state_of_its_successor(world: RankerWorld) -> None:
    process = start(world)

    def take_over(records: Sequence[OutboundRecord]) -> None:
        """Before the first member publishes states, by whatever producer."""
        if any(record.topic == world.topics.user_state for record in records):
            world.kafka.before_publish = lambda records: None
            successor = world.process()
            successor.settle()
            successor.stop()

    world.send(*purchases(24, first=48))
    process.turn(2)
    world.kafka.before_publish = take_over
    process.turn(2)
    assert process.publisher.publications[-1].outcome is Outcome.ABORTED
    assert world.saved_states() == world.uninterrupted().saved_states()


@pytest.mark.parametrize("outcome", [Outcome.ABORTED, Outcome.ANSWER_LOST])
def test_a_batch_that_is_rolled_back_is_ranked_again_with_the_same_slates(world: RankerWorld, outcome: Outcome) -> None:
    process = start(world)
    process.publisher.script.extend([outcome] * 2)
    world.assert_at_least_once(process)
    assert len(world.rankings()) == (48 if outcome is Outcome.ANSWER_LOST else 56), (
        "an answer that is lost was a commit"
    )


def test_a_ranker_killed_between_outputs_and_states_leaves_its_successor_all_it_needs(world: RankerWorld) -> None:
    process = start(world)
    process.publisher.script.append(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        process.turn(2)
    world.assert_at_least_once(world.process())
    assert len(world.rankings()) == 52
