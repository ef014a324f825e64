"""`processing_guarantee = "at_least_once"`: outputs may be published twice, user states are as with exactly once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from anabranch.kafka.records import OutboundRecord
from consumers.ranker.checkpoint import AT_LEAST_ONCE_GAP_S
from tests.support.in_memory_kafka import Outcome
from tests.support.ranker_world import CHECKPOINT_S, RankerProcess, RankerWorld, purchases


@pytest.fixture
def world(tmp_path: Path) -> RankerWorld:
    return RankerWorld(tmp_path, processing_guarantee="at_least_once")


def start(world: RankerWorld) -> RankerProcess:
    """A ranker that has ranked half of its events, whose states it is about to save with those of the next batch."""
    process = world.process()
    world.send(*purchases(24))
    process.settle()
    world.send(*purchases(24, first=24))
    world.clock.advance(CHECKPOINT_S)
    return process


def on_first(
    world: RankerWorld, condition: Callable[[Sequence[OutboundRecord]], bool], action: Callable[[], None]
) -> None:
    """Act once, before the first records that meet the condition are published, by whatever producer."""

    def before_publish(records: Sequence[OutboundRecord]) -> None:
        if condition(records):
            world.kafka.before_publish = lambda records: None
            action()

    world.kafka.before_publish = before_publish


def have_states(records: Sequence[OutboundRecord]) -> bool:
    return any(record.topic.endswith("user-state") for record in records)


def test_without_any_failure_every_event_is_ranked_once(world: RankerWorld) -> None:
    process = start(world)
    world.assert_at_least_once(process)
    assert len(world.rankings()) == 48


def test_outputs_are_visible_before_states_and_offsets_are_committed(world: RankerWorld) -> None:
    process = start(world)
    seen: list[tuple[int, int]] = []
    on_first(world, have_states, lambda: seen.append((len(world.rankings()), sum(world.kafka.committed.values()))))
    process.turn()
    assert seen == [(28, 24)]


def test_only_batches_with_states_are_transactions(world: RankerWorld) -> None:
    process = start(world)
    transactions = len(process.publisher.publications)
    process.turn(4)
    assert len(world.rankings()) == 40
    assert len(process.publisher.publications) == transactions + 1
    assert sum(world.kafka.committed.values()) == 40


def test_states_that_become_due_soon_after_a_transaction_wait_for_the_next(world: RankerWorld) -> None:
    process = world.process()
    process.settle()
    for step, user in enumerate(("u0", "u2")):
        world.send(replace(purchases(1)[0], event_id=f"e{step}", user_id=user))
        process.turn()
        world.clock.advance(AT_LEAST_ONCE_GAP_S / 2)
    world.clock.advance(CHECKPOINT_S - AT_LEAST_ONCE_GAP_S)
    process.turn(2)
    assert set(world.saved_states()) == {"u0"}
    world.clock.advance(AT_LEAST_ONCE_GAP_S / 2)
    process.turn(2)
    assert set(world.saved_states()) == {"u0"}, "the other is due, but the last transaction was just now"
    world.clock.advance(AT_LEAST_ONCE_GAP_S / 2)
    process.turn(2)
    assert set(world.saved_states()) == {"u0", "u2"}


@pytest.mark.parametrize("with_states", [True, False])
def test_a_member_that_the_group_replaced_writes_neither_states_nor_offsets(
    world: RankerWorld, with_states: bool
) -> None:
    process = start(world)
    if not with_states:
        process.turn()

    def take_over() -> None:
        successor = world.process()
        successor.settle()
        successor.stop()

    on_first(world, have_states if with_states else lambda records: not records, take_over)
    process.turn(2)
    assert sum(world.kafka.committed.values()) == 48
    assert world.saved_states() == world.uninterrupted().saved_states()
    assert process.metric("transactions_aborted_total") == 1


@pytest.mark.parametrize(("outcome", "repeated"), [(Outcome.ABORTED, 4), (Outcome.ANSWER_LOST, 0)])
def test_a_batch_that_is_rolled_back_is_ranked_again_with_the_same_slates(
    world: RankerWorld, outcome: Outcome, repeated: int
) -> None:
    process = start(world)
    process.publisher.script.append(outcome)
    world.assert_at_least_once(process)
    assert len(world.rankings()) == 48 + repeated


def test_a_ranker_killed_between_outputs_and_states_leaves_its_successor_all_it_needs(world: RankerWorld) -> None:
    process = start(world)
    process.publisher.script.append(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        process.turn(2)
    world.assert_at_least_once(world.process())
    assert len(world.rankings()) == 52
