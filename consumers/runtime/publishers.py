"""Publishing a batch: its messages and its consumed offsets together or not at all, or at least once."""

from __future__ import annotations

import logging
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from kafka import KafkaProducer, TopicPartition
from kafka.errors import (
    AuthorizationError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    ProducerFencedError,
    RecordListTooLargeError,
    UnsupportedVersionError,
)
from kafka.producer.future import FutureRecordMetadata
from kafka.producer.transaction_manager import TransactionalRequestResult
from kafka.structs import OffsetAndMetadata

from anabranch.errors import AnabranchError, BrokerFailed, BrokerUnavailable, Fenced
from anabranch.kafka import clients
from anabranch.kafka.connections import is_refusal, refused
from anabranch.kafka.topics import Topics
from anabranch.settings import Settings
from consumers.runtime.outbound import Outgoing

CLOSE_S = 2
FENCED_TIMES, FENCED_WITHIN_S = 3, 120.0
"""A process that stood still is fenced once, by the broker. One that is fenced again and again has a living double."""
ROLLED_BACK_IN_A_ROW = 20
"""Trying again has not helped for more than a minute."""
PERMANENT = (AuthorizationError, MessageSizeTooLargeError, RecordListTooLargeError, UnsupportedVersionError)
WAKE_MS = 200
AWAY_S = 60
"""How long a cluster may be away before the process ends, for its supervisor to see."""
FLUSH_S = 30
log = logging.getLogger(__name__)

Offsets = Mapping[TopicPartition, int]


class RolledBack(AnabranchError):
    """The transaction did not commit, as far as this process knows: the committed offsets say what holds."""


class Publisher(Protocol):
    """How a batch is published."""

    def publish(self, outgoing: Sequence[Outgoing], offsets: Offsets, membership: Any) -> list[int]:
        """Publish the messages and commit `offsets`, the next to consume, for the group as of `membership`.

        There are always offsets, of every partition the messages are about: they are what the group checks. Returns
        the offset at which each message stands, -1 where it is not known. Raises `RolledBack`, after which another
        batch may be tried; `Fenced`, `BrokerRefused` and `BrokerFailed`, after which none may.
        """

    def close(self) -> None:
        """Close the producer."""


class Transactions:
    """Exactly once (KIP-98, KIP-447): a producer of transactions whose id belongs to this process alone."""

    def __init__(self, settings: Settings, group: str) -> None:
        self._settings = settings
        self._id = f"{group}-{settings.instance or uuid.uuid4().hex}"
        self._producer: KafkaProducer = self._made()
        self._fenced: deque[float] = deque(maxlen=FENCED_TIMES)
        self._rolled_back = 0

    def publish(self, outgoing: Sequence[Outgoing], offsets: Offsets, membership: Any) -> list[int]:
        """One transaction. The membership fences this process: if the group has moved on, nothing is published."""
        deadline = time.monotonic() + self._settings.transaction_timeout_ms / 1000
        try:
            self._producer.begin_transaction()
            sent = [_send(self._producer, message) for message in outgoing]
            self._producer._accumulator.begin_flush()  # not before: a transaction's messages go in as few requests
            manager = self._producer._transaction_manager
            self._await(manager.send_offsets_to_transaction(to_commit(offsets), membership), deadline)
            self._await_flushed(deadline)
            placed = [_offset(future, deadline) for future in sent]
            # Not before: a commit that follows a refused message is said to have succeeded.
            self._await(manager.begin_commit(), deadline)
        except KafkaError as error:
            cause = self._cause(error)
            if is_refusal(cause):
                raise refused(self._settings, cause) from error
            if isinstance(cause, PERMANENT):
                raise BrokerFailed(
                    f"the broker does not take what this process publishes: {cause}. It needs write access to the "
                    f"topics and to the transactional id {self._id}; `anabranch topics check` compares their settings"
                ) from error
            if isinstance(cause, ProducerFencedError):
                self._count_fencing(error)
            self._rolled_back += 1
            if self._rolled_back == ROLLED_BACK_IN_A_ROW:
                raise BrokerFailed(f"{self._rolled_back} transactions in a row were rolled back: {cause}") from error
            self._start_anew()
            raise RolledBack(f"the transaction was rolled back: {cause}") from error
        self._rolled_back = 0
        return placed

    def close(self) -> None:
        """Close the producer; no transaction is open between calls of `publish`."""
        self._producer.close(timeout=CLOSE_S)

    def _await(self, result: TransactionalRequestResult, deadline: float) -> None:
        """What the producer's own methods do, but not for ever.

        Its sending thread was seen to sleep with a request in hand once a broker had been killed, kafka-python 3.0.12.
        So it is woken again and again, and given up when the broker has ended the transaction in any case.
        """
        self._producer._sender.wakeup()
        while not result.wait(timeout_ms=WAKE_MS):
            if time.monotonic() > deadline:
                raise KafkaTimeoutError(f"no answer within {self._settings.transaction_timeout_ms} ms")
            self._producer._sender.wakeup()

    def _await_flushed(self, deadline: float) -> None:
        """The end of the flush that has begun, the sending thread woken as in `_await`."""
        accumulator = self._producer._accumulator
        while True:
            try:
                accumulator.await_flush_completion(timeout=WAKE_MS / 1000)
                return
            except KafkaTimeoutError:  # the flush is over with it
                if time.monotonic() > deadline:
                    raise
                accumulator.begin_flush()
                self._producer._sender.wakeup()

    def _cause(self, error: KafkaError) -> Exception:
        """What went wrong: once it has, every call of kafka-python 3.0.12 says no more than that something did."""
        cause: Exception | None = self._producer._transaction_manager.last_error
        return cause or error

    def _count_fencing(self, error: KafkaError) -> None:
        self._fenced.append(time.monotonic())
        if len(self._fenced) == self._fenced.maxlen and self._fenced[-1] - self._fenced[0] < FENCED_WITHIN_S:
            raise Fenced(
                f"another process uses the transactional id {self._id}, and fenced this {len(self._fenced)} times in "
                f"{FENCED_WITHIN_S:.0f} s. Give each process an `instance` of its own"
            ) from error

    def _start_anew(self) -> None:
        """Replace the producer by one with the same id, which ends the open transaction, whichever way it was going.

        An aborted producer of kafka-python 3.0.12 must not be used again: offsets the group refused stay with it
        and go into its next transaction, which would commit events that nobody ranked.
        """
        try:
            self.close()
        except KafkaError as error:  # its successor ends the transaction in any case
            log.debug("while giving up a producer: %s", error)
            self._producer._sender.force_close()  # or its thread would go on
        self._producer = self._made()

    def _made(self) -> KafkaProducer:
        """A producer, once the cluster answers. Raises `BrokerUnavailable` if it does not for `AWAY_S`."""
        deadline = time.monotonic() + AWAY_S
        while True:
            try:
                return clients.transactional_producer(self._settings, self._id)
            except BrokerUnavailable:
                if time.monotonic() > deadline:
                    raise
                log.warning("no broker answers: trying again")


class AtLeastOnce:
    """Without transactions: what is published stays, and offsets follow. A crash between the two publishes twice."""

    def __init__(self, settings: Settings, commit: Callable[[Offsets], None]) -> None:
        self._last = Topics(settings).user_state
        self._commit = commit
        self._producer: KafkaProducer = clients.producer(settings)

    def publish(self, outgoing: Sequence[Outgoing], offsets: Offsets, membership: Any) -> list[int]:
        """Send what the batch says, commit its offsets, then save states: they must hold nothing beyond the offsets."""
        first = [at for at, message in enumerate(outgoing) if message.topic != self._last]
        last = [at for at, message in enumerate(outgoing) if message.topic == self._last]
        try:
            placed = self._sent(outgoing, first)
            self._commit(offsets)
            placed |= self._sent(outgoing, last)
        except KafkaError as error:
            raise RolledBack(f"the batch was not published whole: {error}") from error
        return [placed[at] for at in range(len(outgoing))]

    def _sent(self, outgoing: Sequence[Outgoing], positions: Sequence[int]) -> dict[int, int]:
        """Send some of the messages; the offset of each by its position, once the broker has them all."""
        sent = {at: _send(self._producer, outgoing[at]) for at in positions}
        self._producer.flush(FLUSH_S)
        return {at: _offset(future, deadline=time.monotonic()) for at, future in sent.items()}

    def close(self) -> None:
        """Close the producer."""
        self._producer.close(timeout=CLOSE_S)


def _send(producer: KafkaProducer, message: Outgoing) -> FutureRecordMetadata:
    topic, key, value, partition, headers = message
    return producer.send(topic, value=value, key=key, headers=headers, partition=partition)


def _offset(future: FutureRecordMetadata, deadline: float) -> int:
    """Where a message stands, -1 if the broker does not say. Waiting for what is there already takes a timer each."""
    metadata = future.value if future.succeeded() else future.get(timeout=max(0.0, deadline - time.monotonic()))
    offset: int = metadata.offset
    return offset


def to_commit(offsets: Offsets) -> dict[TopicPartition, OffsetAndMetadata]:
    """Offsets as kafka-python wants them."""
    return {partition: OffsetAndMetadata(offset, "", -1) for partition, offset in offsets.items()}
