"""A producer of transactions, with the work-rounds that kafka-python 3.0.12 needs."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError
from kafka.producer.future import FutureRecordMetadata
from kafka.producer.transaction_manager import TransactionalRequestResult

from anabranch.kafka import clients
from anabranch.kafka.records import Offsets, OutboundRecord, offsets_and_metadata
from anabranch.settings import Settings

CLOSE_TIMEOUT_S = 2
WAKE_INTERVAL_MS = 200
log = logging.getLogger(__name__)


class TransactionalProducer:
    """One transaction per call (KIP-98), its consumed offsets in it (KIP-447).

    Its construction fences any producer with the same transactional id and ends that producer's open transaction.
    """

    def __init__(self, settings: Settings, transactional_id: str) -> None:
        """Raises `BrokerUnavailable`."""
        self._timeout_ms = settings.transaction_timeout_ms
        self._producer: KafkaProducer = clients.transactional_producer(settings, transactional_id)

    def publish(self, records: Sequence[OutboundRecord], offsets: Offsets, group_metadata: Any) -> list[int]:
        """Commit the records and the consumed offsets, if any, in one transaction; the offset of each record.

        Raises `KafkaError`; `root_cause` says what lies behind it. Nothing is committed then, except where the answer
        to the commit was lost. The producer must not be used again after an error: with kafka-python 3.0.12, offsets
        that the group refused stay in the transaction manager and go into its next transaction, which would commit
        events that nobody ranked. No upstream issue is known.
        """
        deadline = time.monotonic() + self._timeout_ms / 1000
        self._producer.begin_transaction()
        futures = [send(self._producer, record) for record in records]
        self._producer._accumulator.begin_flush()  # only now: a transaction's records go in as few requests as possible
        manager = self._producer._transaction_manager
        if offsets:
            self._await(manager.send_offsets_to_transaction(offsets_and_metadata(offsets), group_metadata), deadline)
        self._await_flush(deadline)
        # Before the commit: kafka-python reports success for a commit after a refused record (no issue is known).
        record_offsets = [offset_of(future, deadline) for future in futures]
        self._await(manager.begin_commit(), deadline)
        return record_offsets

    def root_cause(self, error: KafkaError) -> Exception:
        """The first error of the transaction: later calls of kafka-python 3.0.12 hide it (no issue is known)."""
        cause: Exception | None = self._producer._transaction_manager.last_error
        return cause or error

    def close(self) -> None:
        """Close the producer. Raises `KafkaError`."""
        self._producer.close(timeout=CLOSE_TIMEOUT_S)

    def abandon(self) -> None:
        """Close the producer whatever its state; its successor ends an open transaction."""
        try:
            self.close()
        except KafkaError as error:
            log.debug("abandoned a producer: %s", error)
            self._producer._sender.force_close()  # its thread would run on

    def _await(self, result: TransactionalRequestResult, deadline: float) -> None:
        """Wait for an answer until the deadline, waking the sender thread again and again.

        The sender thread of kafka-python 3.0.12 was seen to sleep with a request in its queue after a broker was
        killed, and `KafkaProducer.commit_transaction` then waits for ever. No upstream issue is known.
        """
        self._producer._sender.wakeup()
        while not result.wait(timeout_ms=WAKE_INTERVAL_MS):
            if time.monotonic() > deadline:
                raise KafkaTimeoutError(f"no answer within {self._timeout_ms} ms")
            self._producer._sender.wakeup()

    def _await_flush(self, deadline: float) -> None:
        """Wait for the end of the flush that has begun, with the sender thread woken as in `_await`."""
        accumulator = self._producer._accumulator
        while True:
            try:
                accumulator.await_flush_completion(timeout=WAKE_INTERVAL_MS / 1000)
                return
            except KafkaTimeoutError:  # which also ends the flush
                if time.monotonic() > deadline:
                    raise
                accumulator.begin_flush()
                self._producer._sender.wakeup()


def send(producer: KafkaProducer, record: OutboundRecord) -> FutureRecordMetadata:
    """Hand a record to a producer."""
    topic, key, value, partition, headers = record
    return producer.send(topic, value=value, key=key, headers=headers, partition=partition)


def offset_of(future: FutureRecordMetadata, deadline: float) -> int:
    """The offset of a sent record, `UNKNOWN_OFFSET` if the broker does not say; `deadline` in monotonic seconds.

    A finished future is read without `get`, which would start a timer for each.
    """
    metadata = future.value if future.succeeded() else future.get(timeout=max(0.0, deadline - time.monotonic()))
    offset: int = metadata.offset
    return offset
