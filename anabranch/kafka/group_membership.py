"""Work-rounds for the group membership of kafka-python 3.0.12, each with its upstream issue."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import suppress
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import IllegalStateError, LogTruncationError, NoOffsetForPartitionError, OffsetOutOfRangeError
from kafka.future import Future

NOT_ASSIGNED = (ValueError, IllegalStateError)
"""What kafka-python raises for a partition that was revoked this very moment."""


def fetch_metadata(consumer: KafkaConsumer) -> None:
    """Fetch the metadata of the cluster before the consumer joins its group, or it joins again when they arrive."""
    consumer.topics()


class UnclaimedJoin:
    """A join in flight whose result nobody has taken yet, as the coordinator reads it."""

    is_done = False
    """The coordinator forgets a join that is done before it waits for it, and sends another one."""

    def __init__(self, join: Future) -> None:
        self.add_callback, self.add_errback = join.add_callback, join.add_errback
        self._join = join

    def __await__(self) -> Generator[Any, None, Any]:
        return (yield from self._join.__await__())


def finish_every_join(consumer: KafkaConsumer) -> None:
    """Have the client take the result of every join that it sent, also if the answer comes between two polls.

    It forgets such a join and sends another one: the whole group then rebalances again, and two members that poll in
    turn may do so for ever. And it forgets a join for changed metadata, which is needed only until the leader has
    assigned: it then neither fetches nor sends heartbeats, and the next rebalance waits for it until
    `max_poll_interval_ms`. No upstream issue is known; dpkp/kafka-python#2617 mended a similar race.
    """
    coordinator = consumer._coordinator
    need_rejoin, join_group = coordinator.need_rejoin, coordinator.join_group_async

    async def join_group_with_claim(timeout_ms: float | None = None) -> bool:
        join = coordinator._join_task
        if join is not None and not isinstance(join, UnclaimedJoin):
            coordinator._join_task = UnclaimedJoin(join)
        return bool(await join_group(timeout_ms))

    coordinator.need_rejoin = lambda: coordinator._join_task is not None or need_rejoin()
    coordinator.join_group_async = join_group_with_claim


def report_every_loss(consumer: KafkaConsumer) -> None:
    """Have the client report lost partitions also where the group removes it during a rejoin.

    The client asks once per rejoin whether its membership was lost, at the beginning. A member that is removed after
    that joins anew under another id, claims the partitions it had, and reports nothing, although other members have
    had them meanwhile. No upstream issue is known; dpkp/kafka-python#3016 added the report.
    """
    coordinator = consumer._coordinator
    reset_generation = coordinator.reset_generation

    def reset_and_ask_again(*arguments: Any, **options: Any) -> None:
        reset_generation(*arguments, **options)
        coordinator.rejoining = False

    coordinator.reset_generation = reset_and_ask_again


def drop_claim(assignor: CooperativeStickyAssignor) -> None:
    """Forget the partitions that the assignor would claim at the next rejoin.

    A member that the group has removed would claim them again, and the leader would believe the claim. No upstream
    issue is known.
    """
    assignor.member_assignment = None


def lost_positions(
    error: OffsetOutOfRangeError | LogTruncationError | NoOffsetForPartitionError,
) -> list[TopicPartition]:
    """The partitions that an error of `poll` is about."""
    partitions = error.divergent_offsets if isinstance(error, LogTruncationError) else error.args[0]
    return list(partitions)


def topic_id(consumer: KafkaConsumer, topic: str) -> str | None:
    """The id of a topic by the newest metadata of the consumer (KIP-516); None if the broker has not said it."""
    newest = consumer._cluster.topic_id(topic)
    return None if newest is None else str(newest)


def seek_all(consumer: KafkaConsumer, offsets: Mapping[TopicPartition, int]) -> None:
    """Seek each partition that is still assigned.

    It is also how a partition is paused, with the end of its log as the offset: `KafkaConsumer.pause` is no way, since
    a partition that is paused with part of a fetch still buffered is never fetched again, and `seek_to_end` takes
    effect later, which may be after a later `seek`. No upstream issue is known; dpkp/kafka-python#2981 made paused
    partitions keep their buffered fetches.
    """
    for partition, offset in offsets.items():
        with suppress(*NOT_ASSIGNED):
            consumer.seek(partition, offset)


def still_assigned(consumer: KafkaConsumer, partitions: Iterable[TopicPartition]) -> list[TopicPartition]:
    """Those of the partitions that the group has not taken away."""
    assigned = consumer.assignment()
    return [partition for partition in partitions if partition in assigned]
