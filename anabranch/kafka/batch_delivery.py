"""Batches of records, sent by a thread of its own, each reported once the broker has acknowledged all of it.

The accumulator of kafka-python 3.0.12 has no bound (`buffer_memory` is gone), and `KafkaProducer.send` blocks while
metadata are missing. So the caller bounds what it submits, by when reports arrive, and never waits here.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence

from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError

from anabranch.errors import AnabranchError
from anabranch.kafka import clients
from anabranch.kafka.records import OutboundRecord
from anabranch.kafka.transactional_producer import send
from anabranch.settings import Settings
from anabranch.throttle import FailureLog

WAKE_INTERVAL_S = 0.2
REQUEST_TIMEOUT_MS = 5_000
LONGEST_RECONNECT_BACKOFF_MS = 1_000
"""kafka-python waits up to 30 s by default before it looks for a broker again."""
log = logging.getLogger(__name__)

Report = Callable[[Exception | None], None]
"""Called once for a batch, from any thread: None, the broker has acknowledged all of it; else the first error."""


def acknowledged_producer(settings: Settings, within_s: float) -> KafkaProducer:
    """An idempotent producer with acks=all that reports of every record within so many seconds, 6 at least.

    Raises `BrokerUnavailable`.
    """
    return clients.producer(
        settings,
        acks="all",
        enable_idempotence=True,
        delivery_timeout_ms=int(within_s * 1000),
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        max_block_ms=REQUEST_TIMEOUT_MS,
        linger_ms=0,  # somebody waits; while a request is on its way, records still gather in batches
        reconnect_backoff_max_ms=LONGEST_RECONNECT_BACKOFF_MS,
    )


class BatchDelivery:
    """Sends batches in the order in which they are submitted."""

    def __init__(self, connect: Callable[[], KafkaProducer], within_s: float) -> None:
        """`connect` makes a producer: now, and again if one fails for good. Raises what it raises.

        A batch that has waited for `within_s` seconds is not sent any more.
        """
        self._connect = connect
        self._within_s = within_s
        self._producer: KafkaProducer | None = connect()
        self._batches: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._closed = False
        self._not_sent = FailureLog(log, "batches could not be sent")
        self._woken_at_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="batch-delivery", daemon=True)
        self._thread.start()

    def submit(self, records: Sequence[OutboundRecord], report: Report) -> None:
        """Send these records; any thread may call it, and is not kept waiting. Not after `close`."""
        self._batches.put(_Batch(records, report, time.monotonic() + self._within_s))

    def close(self, timeout_s: float) -> None:
        """Send what was submitted, and wait for the broker's answers for so many seconds."""
        self._closed = True
        self._batches.put(None)
        self._thread.join(timeout_s)
        self._abandon(timeout_s)

    def _run(self) -> None:
        while True:
            try:
                batch = self._batches.get(timeout=WAKE_INTERVAL_S)
            except queue.Empty:
                self._wake()
                continue
            if batch is None:
                return
            self._send(batch)
            self._wake()

    def _send(self, batch: _Batch) -> None:
        try:
            producer = self._usable_producer()
            if time.monotonic() > batch.deadline_s:
                raise KafkaTimeoutError("the batch has waited for too long")
        except (KafkaError, AnabranchError) as error:
            batch.fail(error, len(batch.records))
            return
        for number, record in enumerate(batch.records):
            try:
                future = send(producer, record)
            except Exception as error:  # whatever it is: a batch without a report would be in flight for ever
                self._not_sent.failed(error)
                batch.fail(error, len(batch.records) - number)
                return
            future.add_callback(batch.on_acknowledged).add_errback(batch.on_failed)

    def _usable_producer(self) -> KafkaProducer:
        """A new one if the last has failed for good, and with it all that it had not delivered."""
        if self._producer is not None and self._producer._transaction_manager.has_fatal_error():
            log.error("the producer failed and is replaced: %s", self._producer._transaction_manager.last_error)
            self._abandon(0)
        if self._producer is None:
            if self._closed:
                raise KafkaTimeoutError("the process ends")
            self._producer = self._connect()
        return self._producer

    def _wake(self) -> None:
        """The sender thread of kafka-python 3.0.12 was seen to sleep with a request in its queue after a broker was
        killed (`TransactionalProducer`). No upstream issue is known."""
        now_s = time.monotonic()
        if self._producer is not None and now_s - self._woken_at_s >= WAKE_INTERVAL_S:
            self._producer._sender.wakeup()
            self._woken_at_s = now_s

    def _abandon(self, timeout_s: float) -> None:
        producer, self._producer = self._producer, None
        if producer is None:
            return
        try:
            producer.close(timeout=timeout_s)
        except KafkaError as error:
            log.warning("some events were not acknowledged before the end: %s", error)
            producer._sender.force_close()  # its thread would run on


class _Batch:
    """Records, and how many of them have no report yet."""

    def __init__(self, records: Sequence[OutboundRecord], report: Report, deadline_s: float) -> None:
        self.records = records
        self.deadline_s = deadline_s
        self._report = report
        self._waiting = len(records)
        self._error: Exception | None = None
        self._lock = threading.Lock()

    def on_acknowledged(self, _: object) -> None:
        self._finish(None, 1)

    def on_failed(self, error: Exception) -> None:
        self._finish(error, 1)

    def fail(self, error: Exception, count: int) -> None:
        """So many records were not sent."""
        self._finish(error, count)

    def _finish(self, error: Exception | None, count: int) -> None:
        with self._lock:
            self._error = self._error or error
            self._waiting -= count
            done = self._waiting == 0
        if done:
            self._report(self._error)
