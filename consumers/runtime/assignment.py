"""What the group's rebalances did: told by the client's own thread of control, acted on by the main loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from kafka import ConsumerRebalanceListener, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor


class Rebalanced(NamedTuple):
    """Partition numbers taken away, then given; one that was taken away and given back is in both."""

    revoked: frozenset[int]
    assigned: frozenset[int]


class AssignmentListener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Notes changes, for its methods run on the loop that also drives heartbeats and must return at once.

    The group rebalances cooperatively (KIP-429): what a rebalance does not move is not told of and flows on.
    """

    def __init__(self) -> None:
        self.assignor = CooperativeStickyAssignor()
        self._changes: deque[tuple[bool, frozenset[int]]] = deque()

    @property
    def changed(self) -> bool:
        """Whether something happened that `take` has not told yet."""
        return bool(self._changes)

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Called by the client for partitions that go to another member."""
        self._changes.append((False, frozenset(partition.partition for partition in revoked)))

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        """Called by the client when the group has thrown it out: others may hold the partitions already.

        kafka-python 3.0.12 would claim them again as it rejoins, and the leader believe it: the claim goes here.
        """
        self.assignor.member_assignment = None
        self.on_partitions_revoked(lost)

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Called by the client for partitions that are new to it."""
        self._changes.append((True, frozenset(partition.partition for partition in assigned)))

    def take(self) -> Rebalanced:
        """The changes since the last call, as one."""
        revoked: frozenset[int] = frozenset()
        assigned: frozenset[int] = frozenset()
        while self._changes:
            given, partitions = self._changes.popleft()
            if given:
                assigned |= partitions
            else:
                revoked |= partitions
                assigned -= partitions
        return Rebalanced(revoked, assigned)
