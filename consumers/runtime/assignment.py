"""What the rebalances of a group changed: noted on the client's event loop, taken by the main loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from kafka import ConsumerRebalanceListener, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

from anabranch.kafka.group_membership import drop_claim


class Rebalance(NamedTuple):
    """Partitions revoked, then assigned; one that was revoked and assigned again is in both."""

    revoked: frozenset[int]
    assigned: frozenset[int]
    out_of_range: frozenset[int] = frozenset()
    """Those of both that the group has not moved: their logs no longer have the position of this process."""


class AssignmentListener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Notes changes and returns at once: its methods run on the event loop that also sends heartbeats.

    The group rebalances cooperatively (KIP-429): a partition that does not move is not reported and flows on.
    """

    def __init__(self) -> None:
        self.assignor = CooperativeStickyAssignor()
        self._changes: deque[tuple[bool, frozenset[int]]] = deque()
        self._out_of_range: frozenset[int] = frozenset()

    @property
    def has_changes(self) -> bool:
        """Whether there are changes that `take` has not returned yet."""
        return bool(self._changes or self._out_of_range)

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Called by the client for partitions that go to another member."""
        self._changes.append((False, frozenset(partition.partition for partition in revoked)))

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        """Called by the client when the group has removed it: other members may have the partitions already."""
        drop_claim(self.assignor)
        self.on_partitions_revoked(lost)

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Called by the client for partitions that are new to it."""
        self._changes.append((True, frozenset(partition.partition for partition in assigned)))

    def reassign(self, out_of_range: Iterable[TopicPartition]) -> None:
        """Begin partitions again that the group has not moved."""
        self._out_of_range |= {partition.partition for partition in out_of_range}

    def take(self) -> Rebalance:
        """The changes since the last call, as one."""
        revoked: frozenset[int] = frozenset()
        assigned: frozenset[int] = frozenset()
        while self._changes:
            is_assignment, partitions = self._changes.popleft()
            if is_assignment:
                assigned |= partitions
            else:
                revoked |= partitions
                assigned -= partitions
        out_of_range, self._out_of_range = self._out_of_range - revoked - assigned, frozenset()
        return Rebalance(revoked | out_of_range, assigned | out_of_range, out_of_range)
