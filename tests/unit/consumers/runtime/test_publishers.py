"""Publishers whose producer fails: which errors are retried, and when the producer is replaced."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.errors import (
    CommitFailedError,
    KafkaError,
    KafkaTimeoutError,
    ProducerFencedError,
    SaslAuthenticationFailedError,
    TopicAuthorizationFailedError,
)

from anabranch.errors import BrokerFailed, BrokerRefused, BrokerUnavailable, Fenced
from anabranch.kafka.records import Offsets, OutboundRecord
from anabranch.settings import Settings
from consumers.runtime.publishers import AtLeastOncePublisher, TransactionAborted, TransactionalPublisher
from tests.support.in_memory_kafka import ManualClock
from tests.support.in_memory_producer import AcknowledgedFuture

OFFSETS = {TopicPartition("events", 0): 7}
RECORDS = [OutboundRecord("rankings", b"u", b"{}", 0), OutboundRecord("user-state", b"u", b"s", 0)]


@dataclass
class Cluster:
    """Creates producers whose transactions end as scripted."""

    errors: deque[KafkaError | None] = field(default_factory=deque)
    unavailable: int = 0
    """How many attempts to create a producer fail because no broker responds."""
    clock: ManualClock = field(default_factory=ManualClock)
    producers: list[Producer] = field(default_factory=list)

    def new_producer(self) -> Producer:
        if self.unavailable:
            self.unavailable -= 1
            self.clock.advance(15)
            raise BrokerUnavailable("no broker")
        self.producers.append(Producer(self))
        return self.producers[-1]


@dataclass
class Producer:
    cluster: Cluster
    is_abandoned: bool = False

    def publish(self, records: Sequence[OutboundRecord], offsets: Offsets, group_metadata: Any) -> list[int]:
        assert not self.is_abandoned, "a producer is never used after an error"
        error = self.cluster.errors.popleft() if self.cluster.errors else None
        if error is not None:
            raise error
        return list(range(len(records)))

    def root_cause(self, error: KafkaError) -> Exception:
        return error.__cause__ if isinstance(error.__cause__, Exception) else error

    def close(self) -> None:
        self.is_abandoned = True

    def abandon(self) -> None:
        self.is_abandoned = True


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def publisher(cluster: Cluster) -> TransactionalPublisher:
    return TransactionalPublisher(Settings(), "ranker-one", cluster.new_producer, cluster.clock.clock())


def publish(publisher: TransactionalPublisher) -> list[int]:
    return publisher.publish(RECORDS, OFFSETS, 1)


def aborted(publisher: TransactionalPublisher, times: int) -> None:
    for _ in range(times):
        with pytest.raises(TransactionAborted):
            publish(publisher)


def test_a_transaction_returns_the_offset_of_each_record(cluster: Cluster) -> None:
    assert publish(publisher(cluster)) == [0, 1]


def test_after_an_abort_another_producer_takes_over(cluster: Cluster) -> None:
    cluster.errors.append(KafkaTimeoutError("no answer"))
    subject = publisher(cluster)
    aborted(subject, 1)
    assert publish(subject) == [0, 1]
    assert [producer.is_abandoned for producer in cluster.producers] == [True, False]


def test_a_producer_fenced_once_is_replaced(cluster: Cluster) -> None:
    cluster.errors.append(ProducerFencedError())
    subject = publisher(cluster)
    aborted(subject, 1)
    assert publish(subject) == [0, 1]


def test_three_fencings_within_two_minutes_mean_a_second_process_with_the_same_id(cluster: Cluster) -> None:
    cluster.errors.extend([ProducerFencedError()] * 3)
    subject = publisher(cluster)
    aborted(subject, 2)
    with pytest.raises(Fenced, match=r"transactional id ranker-one.*Give each process an `instance` of its own"):
        publish(subject)


def test_three_fencings_over_a_longer_time_are_retried(cluster: Cluster) -> None:
    cluster.errors.extend([ProducerFencedError()] * 3)
    subject = publisher(cluster)
    for _ in range(3):
        aborted(subject, 1)
        cluster.clock.advance(61)
    assert publish(subject) == [0, 1]


def test_twenty_aborts_in_a_row_end_the_process(cluster: Cluster) -> None:
    cluster.errors.extend([KafkaTimeoutError("no answer")] * 20)
    subject = publisher(cluster)
    aborted(subject, 19)
    with pytest.raises(BrokerFailed, match="20 transactions in a row were aborted"):
        publish(subject)


def test_a_commit_resets_the_count_of_aborts(cluster: Cluster) -> None:
    cluster.errors.extend([KafkaTimeoutError("no answer")] * 19 + [None] + [KafkaTimeoutError("no answer")] * 19)
    subject = publisher(cluster)
    aborted(subject, 19)
    publish(subject)
    aborted(subject, 19)
    assert publish(subject) == [0, 1]


def test_a_topic_without_write_access_ends_the_process_with_a_remedy(cluster: Cluster) -> None:
    cluster.errors.append(TopicAuthorizationFailedError("rankings"))
    with pytest.raises(BrokerFailed, match="write access to the topics and to the transactional id ranker-one"):
        publish(publisher(cluster))


def test_a_refused_connection_ends_the_process(cluster: Cluster) -> None:
    cluster.errors.append(SaslAuthenticationFailedError())
    with pytest.raises(BrokerRefused):
        publish(publisher(cluster))


def test_a_producer_is_created_as_soon_as_a_broker_responds(cluster: Cluster) -> None:
    cluster.unavailable = 3
    assert publish(publisher(cluster)) == [0, 1]


def test_a_cluster_that_is_unavailable_for_more_than_a_minute_ends_the_process(cluster: Cluster) -> None:
    cluster.unavailable = 100
    with pytest.raises(BrokerUnavailable):
        publisher(cluster)
    assert cluster.unavailable >= 94


class CallRecorder:
    """A kafka-python producer without transactions, and a publisher of transactions, that record their calls."""

    def __init__(self, fail_at: str | None = None, error: type[KafkaError] = KafkaTimeoutError) -> None:
        self.calls: list[str] = []
        self._fail_at = fail_at
        self._error = error

    def send(self, topic: str, **record: Any) -> AcknowledgedFuture:
        self._record_call(topic)
        return AcknowledgedFuture(len(self.calls))

    def flush(self, timeout: float) -> None:
        self._record_call("flush")

    def publish(self, records: Sequence[OutboundRecord], offsets: Offsets, group_metadata: Any) -> list[int]:
        assert (offsets, group_metadata) == (OFFSETS, "generation 5")
        self._record_call(" ".join(["transaction of", *(record.topic for record in records)]))
        return [70 + index for index in range(len(records))]

    def commit(self, offsets: Offsets) -> None:
        assert offsets == OFFSETS
        self._record_call("commit")

    def close(self, timeout: float = 0) -> None:
        self._record_call("close")

    def _record_call(self, call: str) -> None:
        if call == self._fail_at:
            raise self._error(f"{call} failed")
        self.calls.append(call)


def at_least_once(recorder: CallRecorder) -> AtLeastOncePublisher:
    return AtLeastOncePublisher(Settings(), recorder, recorder.commit, recorder)


def test_at_least_once_publishes_rankings_then_states_and_offsets_in_one_transaction() -> None:
    recorder = CallRecorder()
    shuffled = [RECORDS[1], RECORDS[0]]
    offsets = at_least_once(recorder).publish(shuffled, OFFSETS, "generation 5")
    assert recorder.calls == ["rankings", "flush", "transaction of user-state"]
    assert offsets == [70, 1], "the offset of each record, in the order of the records"


def test_at_least_once_a_batch_without_outputs_is_a_transaction_alone() -> None:
    recorder = CallRecorder()
    assert at_least_once(recorder).publish(RECORDS[1:], OFFSETS, "generation 5") == [70]
    assert recorder.calls == ["transaction of user-state"]


def test_at_least_once_a_batch_without_states_commits_its_offsets_alone() -> None:
    recorder = CallRecorder()
    assert at_least_once(recorder).publish(RECORDS[:1], OFFSETS, "generation 5") == [1]
    assert recorder.calls == ["rankings", "flush", "commit"]


def test_at_least_once_offsets_that_the_group_refuses_are_an_abort() -> None:
    recorder = CallRecorder("commit", CommitFailedError)
    with pytest.raises(TransactionAborted, match="not published completely"):
        at_least_once(recorder).publish(RECORDS[:1], OFFSETS, "generation 5")
    assert recorder.calls == ["rankings", "flush"]


@pytest.mark.parametrize("fail_at", ["rankings", "flush"])
def test_at_least_once_outputs_that_fail_leave_states_and_offsets_alone(fail_at: str) -> None:
    recorder = CallRecorder(fail_at)
    with pytest.raises(TransactionAborted, match="not published completely"):
        at_least_once(recorder).publish(RECORDS, OFFSETS, "generation 5")
    assert "transaction of user-state" not in recorder.calls


def test_at_least_once_outputs_that_fail_twenty_times_in_a_row_end_the_process() -> None:
    subject = at_least_once(CallRecorder("flush"))
    for _ in range(19):
        with pytest.raises(TransactionAborted):
            subject.publish(RECORDS, OFFSETS, "generation 5")
    with pytest.raises(BrokerFailed, match="20 transactions in a row"):
        subject.publish(RECORDS, OFFSETS, "generation 5")


def test_at_least_once_a_topic_without_write_access_ends_the_process_with_a_remedy() -> None:
    subject = at_least_once(CallRecorder("rankings", TopicAuthorizationFailedError))
    with pytest.raises(BrokerFailed, match=r"write access to the topics; `anabranch topics check`"):
        subject.publish(RECORDS, OFFSETS, "generation 5")


def test_at_least_once_both_producers_are_closed() -> None:
    recorder = CallRecorder()
    at_least_once(recorder).close()
    assert recorder.calls == ["close", "close"]
