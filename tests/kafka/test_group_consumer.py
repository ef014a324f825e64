"""The ranker's membership of its group, where kafka-python leaves something to be desired."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from kafka import TopicPartition
from kafka.errors import CommitFailedError
from kafka.structs import MemberState

from anabranch.kafka import clients
from anabranch.kafka.topics import Topics
from anabranch.settings import Settings
from consumers.runtime.group_consumer import NO_OFFSET, KafkaGroupConsumer
from tests.kafka.world import await_true


def nothing_is(seconds: float) -> None:
    """Published just now."""


@pytest.fixture
def group(settings: Settings, topics: Topics) -> Iterator[KafkaGroupConsumer]:
    with closing(KafkaGroupConsumer(settings, topics.events)) as made:

        def given() -> bool:
            made.poll_batch({0, 1}, 99, nothing_is)
            change = made.take_rebalance()
            return change is not None and change.assigned == {0, 1}

        await_true(given, "both partitions")
        yield made


def test_a_member_thrown_out_while_it_rejoins_is_told_of_its_loss(group: KafkaGroupConsumer) -> None:
    """Or it would claim, under another name, partitions that others have had meanwhile."""
    coordinator = group._consumer._coordinator
    coordinator.rejoining = True  # a JoinGroup is in flight
    coordinator.reset_generation()  # and the answer is that the group does not know the member

    assert not group.is_stable
    told: list[frozenset[int]] = []

    def lost_and_given_back() -> bool:
        group.poll_batch({0}, 99, nothing_is)
        change = group.take_rebalance()
        if change is not None:
            told.extend((change.revoked, change.assigned))
        return frozenset({0, 1}) in told[1::2]

    await_true(lost_and_given_back, "the partitions to be given back")
    assert told[0] == {0, 1}, "first they are lost"


def test_a_membership_that_is_only_being_joined_fences_nothing(group: KafkaGroupConsumer) -> None:
    before = group.group_metadata
    group._consumer._coordinator.reset_generation()
    assert not group.is_stable
    assert group.group_metadata is before
    assert before.generation_id >= 0


def test_every_join_is_finished_though_its_answer_comes_between_two_polls(group: KafkaGroupConsumer) -> None:
    coordinator = group._consumer._coordinator
    coordinator._assignment_snapshot = {}  # as if the topic had got partitions since the leader assigned
    before = coordinator.group_metadata().generation_id

    def is_joined_again() -> bool:
        group.poll_batch({0, 1}, 99, nothing_is, timeout_ms=2)
        time.sleep(0.05)  # the answer comes now
        return coordinator.group_metadata().state is MemberState.STABLE

    await_true(is_joined_again, "the join to end")
    assert coordinator.group_metadata().generation_id == before + 1, "one join is enough"


def test_a_batch_takes_what_comes_while_the_one_before_is_published(settings: Settings, topics: Topics) -> None:
    with closing(clients.producer(settings)) as producer, closing(KafkaGroupConsumer(settings, topics.events)) as group:

        def put(value: bytes) -> None:
            producer.send(topics.events, value, partition=0).get(timeout=10)

        def publishing(seconds: float) -> None:
            put(b"meanwhile")
            time.sleep(1)
            waited.append(seconds)

        def comes_with_what_came_meanwhile() -> bool:
            group.poll_batch({0}, 99, nothing_is)  # of nothing: it leaves a fetch waiting at the broker
            put(b"before")
            time.sleep(1)
            values = [one.value for one in group.poll_batch({0}, 99, publishing)]
            return values == [b"before", b"meanwhile"]

        waited: list[float] = []
        await_true(
            lambda: not group.poll_batch({0}, 99, nothing_is) and group.take_rebalance() is not None, "the partitions"
        )
        group.resume(0, 0)
        await_true(comes_with_what_came_meanwhile, "a batch that has what came meanwhile")
        assert set(waited) == {settings.linger_ms / 1000}


def test_a_group_without_offsets_starts_on_every_partition_where_the_log_ended_at_one_time(
    group: KafkaGroupConsumer, settings: Settings, topics: Topics
) -> None:
    def publish_on_each_partition() -> None:
        with closing(clients.producer(settings)) as producer:
            for partition in (0, 1):
                producer.send(topics.events, b"an event", partition=partition).get(timeout=10)

    publish_on_each_partition()
    assert group.committed_offset(0, timeout_ms=5_000) == NO_OFFSET
    group.begin({0, 1})
    publish_on_each_partition()
    assert [group.committed_offset(partition, timeout_ms=5_000) for partition in (0, 1)] == [1, 1]


def test_offsets_outside_a_transaction_are_committed_in_the_generation_in_which_they_were_consumed_or_not_at_all(
    group: KafkaGroupConsumer, settings: Settings, topics: Topics
) -> None:
    offsets = {TopicPartition(topics.events, 0): 5}
    group.commit(offsets)
    assert group.committed_offset(0, timeout_ms=5_000) == 5
    consumed_in = group.group_metadata.generation_id
    with closing(KafkaGroupConsumer(settings, topics.events)) as other:

        def has_joined_again() -> bool:
            """The client has, in its poll, before anybody has taken the rebalance."""
            other.poll_batch({0, 1}, 99, nothing_is, timeout_ms=100)
            group._consumer.poll(timeout_ms=100)
            metadata = group._consumer.group_metadata()
            return metadata.state is MemberState.STABLE and metadata.generation_id > consumed_in

        await_true(has_joined_again, "a newer generation")
        with pytest.raises(CommitFailedError, match="the group has moved on"):
            group.commit({TopicPartition(topics.events, 0): 99})
    assert group.committed_offset(0, timeout_ms=5_000) == 5
