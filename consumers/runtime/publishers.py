"""Publishing a batch: its records and its consumed offsets in one transaction, or its outputs before that."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, Protocol, TypeVar

from kafka import KafkaProducer
from kafka.errors import (
    AuthorizationError,
    KafkaError,
    MessageSizeTooLargeError,
    ProducerFencedError,
    RecordListTooLargeError,
    UnsupportedVersionError,
)

from anabranch.errors import AnabranchError, BrokerFailed, BrokerUnavailable, Fenced
from anabranch.kafka.connections import is_refusal, refused
from anabranch.kafka.records import Offsets, OutboundRecord
from anabranch.kafka.topics import Topics
from anabranch.kafka.transactional_producer import CLOSE_TIMEOUT_S, offset_of, send
from anabranch.settings import Settings
from consumers.runtime.clock import Clock

MAX_FENCINGS, FENCING_WINDOW_S = 3, 120.0
"""A process that stood still is fenced once, by the broker. One that is fenced again and again has a living double."""
MAX_ABORTS_IN_A_ROW = 20
"""Trying again has not helped for more than a minute."""
PERMANENT_ERRORS = (AuthorizationError, MessageSizeTooLargeError, RecordListTooLargeError, UnsupportedVersionError)
CLUSTER_TIMEOUT_S = 60
"""How long a cluster may be away before the process ends, for its supervisor to see."""
FLUSH_TIMEOUT_S = 30
log = logging.getLogger(__name__)

Result = TypeVar("Result")


class TransactionAborted(AnabranchError):
    """The transaction did not commit, as far as this process knows: the committed offsets say what holds."""


class Publisher(Protocol):
    """How a batch is published."""

    def publish(self, records: Sequence[OutboundRecord], offsets: Offsets, group_metadata: Any) -> list[int]:
        """Publish the records and commit `offsets` for the group in the generation of `group_metadata`.

        There are always offsets, of every partition that the records are about: they are what the group checks.
        Returns the offset of each record, `UNKNOWN_OFFSET` where the broker did not say. Raises `TransactionAborted`,
        after which another batch may be tried; `Fenced`, `BrokerRefused` and `BrokerFailed`, after which none may.
        """

    def close(self) -> None:
        """Close the producer."""


class Transactions(Protocol):
    """A producer of transactions: see `TransactionalProducer`, which is the real one."""

    def publish(self, records: Sequence[OutboundRecord], offsets: Offsets, group_metadata: Any) -> list[int]:
        """One transaction. Raises `KafkaError`, after which the producer must not be used again."""

    def root_cause(self, error: KafkaError) -> Exception:
        """The first error of the transaction."""

    def close(self) -> None:
        """Close the producer. Raises `KafkaError`."""

    def abandon(self) -> None:
        """Close the producer whatever its state."""


class TransactionalPublisher:
    """Exactly once (KIP-98, KIP-447): a producer whose transactional id belongs to this process alone."""

    def __init__(
        self,
        settings: Settings,
        transactional_id: str,
        new_producer: Callable[[], Transactions],
        clock: Clock | None = None,
        remedy: str = "Give each process an `instance` of its own",
    ) -> None:
        """`new_producer` makes a producer with the id, which fences the one before. `remedy`: what to do where another
        process does the same. Raises `BrokerUnavailable`."""
        self._id = transactional_id
        self._new_producer = new_producer
        self._clock = clock or Clock()
        self._remedy = remedy
        self._producer = self._connect()
        self._fenced_at: deque[float] = deque(maxlen=MAX_FENCINGS)
        self._failures = _Failures(settings, f"the topics and to the transactional id {transactional_id}")

    def publish(self, records: Sequence[OutboundRecord], offsets: Offsets, group_metadata: Any) -> list[int]:
        """One transaction. If the group has moved on from this generation, nothing of it is published."""
        try:
            record_offsets = self._producer.publish(records, offsets, group_metadata)
        except KafkaError as error:
            cause = self._producer.root_cause(error)
            if isinstance(cause, ProducerFencedError):
                self._count_fencing(error)
            self._failures.count(cause, error)
            self._producer.abandon()
            self._producer = self._connect()
            raise TransactionAborted(f"the transaction was aborted: {cause}") from error
        self._failures.reset()
        return record_offsets

    def close(self) -> None:
        """Close the producer; no transaction is open between two calls of `publish`."""
        self._producer.close()

    def _count_fencing(self, error: KafkaError) -> None:
        self._fenced_at.append(self._clock.monotonic())
        if len(self._fenced_at) == MAX_FENCINGS and self._fenced_at[-1] - self._fenced_at[0] < FENCING_WINDOW_S:
            raise Fenced(
                f"another process uses the transactional id {self._id}, and fenced this {MAX_FENCINGS} times in "
                f"{FENCING_WINDOW_S:.0f} s. {self._remedy}"
            ) from error

    def _connect(self) -> Transactions:
        """A producer, once the cluster answers. Raises `BrokerUnavailable` after `CLUSTER_TIMEOUT_S`."""
        deadline = self._clock.monotonic() + CLUSTER_TIMEOUT_S
        while True:
            try:
                return self._new_producer()
            except BrokerUnavailable:
                if self._clock.monotonic() > deadline:
                    raise
                log.warning("no broker answers: trying again")


class AtLeastOncePublisher:
    """Outputs first, then the offsets. A crash between them publishes outputs twice.

    A batch with user states is committed by one transaction of states and offsets: a member that the group has replaced
    can write neither, and no saved state holds events beyond the committed offsets. States outside a transaction would
    overwrite those that the successor has saved. Other batches commit their offsets alone, which costs less.
    """

    def __init__(
        self,
        settings: Settings,
        producer: KafkaProducer,
        commit: Callable[[Offsets], None],
        transactions: Publisher,
    ) -> None:
        """`producer` is idempotent, without transactions. `commit` raises `KafkaError` if the group has moved on."""
        self._producer = producer
        self._commit_alone = commit
        self._transactions = transactions
        self._topic_of_states = Topics(settings).user_state
        self._failures = _Failures(settings, "the topics")

    def publish(self, records: Sequence[OutboundRecord], offsets: Offsets, group_metadata: Any) -> list[int]:
        """Send rankings, feedback and dead letters; then commit user states, markers and offsets."""
        outputs = [index for index, record in enumerate(records) if record.topic != self._topic_of_states]
        states = [index for index, record in enumerate(records) if record.topic == self._topic_of_states]
        output_offsets = self._attempt(lambda: self._send([records[index] for index in outputs]))
        state_offsets: list[int] = []
        if states:
            state_offsets = self._transactions.publish([records[index] for index in states], offsets, group_metadata)
        else:
            self._attempt(lambda: self._commit_alone(offsets))
        self._failures.reset()
        offset_by_index = dict(zip([*outputs, *states], [*output_offsets, *state_offsets], strict=True))
        return [offset_by_index[index] for index in range(len(records))]

    def close(self) -> None:
        """Close both producers."""
        with closing(self._transactions):
            self._producer.close(timeout=CLOSE_TIMEOUT_S)

    def _attempt(self, step: Callable[[], Result]) -> Result:
        try:
            return step()
        except KafkaError as error:
            self._failures.count(error, error)
            raise TransactionAborted(f"the batch was not published completely: {error}") from error

    def _send(self, records: Sequence[OutboundRecord]) -> list[int]:
        """Send outputs; the offset of each, once the broker has all of them."""
        futures = [send(self._producer, record) for record in records]
        if futures:
            self._producer.flush(FLUSH_TIMEOUT_S)
        return [offset_of(future, deadline=time.monotonic()) for future in futures]


class _Failures:
    """Ends the process when another try does not help."""

    def __init__(self, settings: Settings, needed_access: str) -> None:
        """`needed_access`: what the broker has to let this process write to."""
        self._settings = settings
        self._needed_access = needed_access
        self._in_a_row = 0

    def count(self, cause: Exception, error: KafkaError) -> None:
        """Raises `BrokerRefused` and `BrokerFailed` for what is permanent, or has failed too often in a row."""
        if is_refusal(cause):
            raise refused(self._settings, cause) from error
        if isinstance(cause, PERMANENT_ERRORS):
            raise BrokerFailed(
                f"the broker does not accept what this process publishes: {cause}. It needs write access to "
                f"{self._needed_access}; `anabranch topics check` compares the settings of the topics"
            ) from error
        self._in_a_row += 1
        if self._in_a_row == MAX_ABORTS_IN_A_ROW:
            raise BrokerFailed(f"{MAX_ABORTS_IN_A_ROW} transactions in a row were aborted: {cause}") from error

    def reset(self) -> None:
        """A batch was published."""
        self._in_a_row = 0
