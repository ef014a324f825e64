from __future__ import annotations

from kafka import TopicPartition
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment

from consumers.runtime.assignment import AssignmentListener, Rebalance


def partitions(*numbers: int) -> set[TopicPartition]:
    return {TopicPartition("events", number) for number in numbers}


def test_a_partition_revoked_and_assigned_again_is_reported_as_both() -> None:
    listener = AssignmentListener()
    listener.on_partitions_revoked(partitions(0, 1))
    listener.on_partitions_assigned(partitions(1))
    assert listener.has_changes
    assert listener.take() == Rebalance(frozenset({0, 1}), frozenset({1}))
    assert not listener.has_changes


def test_a_partition_assigned_and_revoked_at_once_is_not_reported_as_assigned() -> None:
    listener = AssignmentListener()
    listener.on_partitions_assigned(partitions(0))
    listener.on_partitions_revoked(partitions(0))
    assert listener.take() == Rebalance(frozenset({0}), frozenset())


def test_partitions_that_a_rebalance_leaves_in_place_are_not_reported() -> None:
    listener = AssignmentListener()
    listener.on_partitions_assigned(partitions(0, 1))
    listener.take()
    listener.on_partitions_revoked(partitions(1))
    assert listener.take() == Rebalance(frozenset({1}), frozenset())


def test_a_removed_member_no_longer_claims_its_partitions() -> None:
    """Otherwise the group leader would believe a zombie's claim, and take the partition from its new owner."""
    listener = AssignmentListener()
    listener.assignor.on_assignment(ConsumerProtocolAssignment(0, [("events", [0])], b""), 1)
    assert listener.assignor.metadata({"events"}).owned_partitions
    listener.on_partitions_lost(partitions(0))
    assert not listener.assignor.metadata({"events"}).owned_partitions
    assert listener.take() == Rebalance(frozenset({0}), frozenset())


def test_a_partition_whose_position_is_out_of_range_is_begun_again_unless_the_group_has_moved_it() -> None:
    listener = AssignmentListener()
    listener.reassign(partitions(0, 1))
    assert listener.has_changes
    listener.on_partitions_revoked(partitions(1))
    assert listener.take() == Rebalance(frozenset({0, 1}), frozenset({0}), frozenset({0}))
    assert not listener.has_changes
