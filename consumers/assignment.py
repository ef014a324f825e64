"""What the group's rebalances did: told by the client's own thread of control, acted on by the main loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from kafka import ConsumerRebalanceListener, TopicPartition


class Rebalanced(NamedTuple):
    """Partition numbers taken away, then given, in that order; `settled` is False while some are still to come."""

    revoked: frozenset[int]
    assigned: frozenset[int]
    settled: bool


class AssignmentListener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Notes changes, for its methods run on the loop that also drives heartbeats and must return at once."""

    def __init__(self) -> None:
        self._changes: deque[tuple[bool, frozenset[int]]] = deque()

    @property
    def changed(self) -> bool:
        """Whether something happened that `take` has not told yet."""
        return bool(self._changes)

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Called by the client before a rebalance."""
        self._changes.append((False, frozenset(partition.partition for partition in revoked)))

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Called by the client after a rebalance."""
        self._changes.append((True, frozenset(partition.partition for partition in assigned)))

    def take(self) -> Rebalanced:
        """The changes since the last call, as one."""
        revoked: frozenset[int] = frozenset()
        assigned: frozenset[int] = frozenset()
        settled = True
        while self._changes:
            settled, partitions = self._changes.popleft()
            if settled:
                assigned |= partitions
            else:
                revoked |= partitions
                assigned -= partitions
        return Rebalanced(revoked, assigned, settled)
