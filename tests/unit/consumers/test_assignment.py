from __future__ import annotations

from kafka import TopicPartition

from consumers.assignment import AssignmentListener


def partitions(*numbers: int) -> set[TopicPartition]:
    return {TopicPartition("events", number) for number in numbers}


def test_a_rebalance_is_told_as_one_change() -> None:
    listener = AssignmentListener()
    listener.on_partitions_revoked(partitions(0, 1))
    listener.on_partitions_assigned(partitions(1))
    assert listener.changed
    change = listener.take()
    assert (change.revoked, change.assigned, change.settled) == ({0, 1}, {1}, True)
    assert not listener.changed


def test_a_rebalance_in_the_middle_is_not_settled() -> None:
    listener = AssignmentListener()
    listener.on_partitions_assigned(partitions(0))
    listener.on_partitions_revoked(partitions(0))
    change = listener.take()
    assert not change.settled
    assert change.assigned == frozenset()
    assert change.revoked == {0}
