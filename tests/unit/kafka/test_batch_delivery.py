from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from kafka.errors import KafkaTimeoutError, OutOfOrderSequenceNumberError
from kafka.future import Future

from anabranch.errors import BrokerUnavailable
from anabranch.kafka.batch_delivery import BatchDelivery
from anabranch.kafka.records import OutboundRecord

PATIENCE_S = 10.0


class Producer:
    """A `KafkaProducer` whose broker answers when a test says so."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, Future]] = []
        self.refuses: Exception | None = None
        self.fatal = False
        self.closed = threading.Event()
        self.wakeups = 0
        self._sender = SimpleNamespace(wakeup=self._wake, force_close=self.closed.set)
        self._transaction_manager = SimpleNamespace(has_fatal_error=lambda: self.fatal, last_error="fatal")

    def send(self, topic: str, *, value: bytes, **_: Any) -> Future:
        if self.refuses is not None:
            raise self.refuses
        self.sent.append((value, Future()))
        return self.sent[-1][1]

    def close(self, timeout: float) -> None:
        self.closed.set()
        for _, future in self.sent:
            if not future.is_done:
                future.failure(KafkaTimeoutError("closed"))

    def _wake(self) -> None:
        self.wakeups += 1


class World:
    def __init__(self, within_s: float = 60.0) -> None:
        self.producers: list[Producer] = []
        self.away = False
        self.reports: queue.Queue[Exception | None] = queue.Queue()
        self.delivery = BatchDelivery(self._connect, within_s)

    def _connect(self) -> Producer:
        if self.away:
            raise BrokerUnavailable("away")
        self.producers.append(Producer())
        return self.producers[-1]

    def submit(self, *values: bytes) -> None:
        self.delivery.submit([OutboundRecord("events", b"u", value) for value in values], self.reports.put)

    def await_sent(self, count: int) -> list[Future]:
        await_true(lambda: len(self.producers[-1].sent) == count)
        return [future for _, future in self.producers[-1].sent]

    def report(self) -> Exception | None:
        return self.reports.get(timeout=PATIENCE_S)


def await_true(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def world() -> Iterator[World]:
    created = World()
    yield created
    created.delivery.close(0.1)


def test_a_batch_is_reported_once_all_of_it_is_acknowledged(world: World) -> None:
    world.submit(b"1", b"2", b"3")
    first, second, third = world.await_sent(3)
    third.success(None)
    first.success(None)
    assert world.reports.empty()
    second.success(None)
    assert world.report() is None
    assert [value for value, _ in world.producers[0].sent] == [b"1", b"2", b"3"]


def test_a_batch_with_one_record_that_failed_is_reported_with_the_error_once_all_have_an_answer(world: World) -> None:
    world.submit(b"1", b"2")
    first, second = world.await_sent(2)
    first.failure(KafkaTimeoutError("late"))
    assert world.reports.empty(), "the second record is on its way"
    second.success(None)
    assert "late" in str(world.report())
    assert world.reports.empty()


@pytest.mark.parametrize("error", [KafkaTimeoutError("no metadata"), ValueError("odd")])
def test_a_batch_that_cannot_be_sent_is_reported_and_the_next_one_is_sent(world: World, error: Exception) -> None:
    world.producers[0].refuses = error
    world.submit(b"1", b"2")
    assert world.report() is error
    world.producers[0].refuses = None
    world.submit(b"3")
    world.await_sent(1)[0].success(None)
    assert world.report() is None


def test_a_batch_that_waited_for_too_long_is_not_sent_any_more() -> None:
    world = World(within_s=-1.0)
    world.submit(b"1")
    assert isinstance(world.report(), KafkaTimeoutError)
    assert not world.producers[0].sent
    world.delivery.close(1.0)


def test_a_producer_that_failed_for_good_is_replaced_and_what_it_had_is_reported(world: World) -> None:
    world.submit(b"1")
    world.await_sent(1)
    world.producers[0].fatal = True
    world.submit(b"2")
    assert isinstance(world.report(), KafkaTimeoutError), "the first batch"
    await_true(lambda: len(world.producers) == 2)
    assert world.producers[0].closed.is_set()
    world.await_sent(1)[0].success(None)
    assert world.report() is None
    assert world.producers[1].sent[0][0] == b"2"


def test_while_no_producer_can_be_made_batches_are_reported_and_afterwards_they_are_sent(world: World) -> None:
    world.producers[0].fatal, world.away = True, True
    world.submit(b"1")
    assert isinstance(world.report(), BrokerUnavailable)
    world.away = False
    world.submit(b"2")
    await_true(lambda: len(world.producers) == 2)
    world.await_sent(1)[0].success(None)
    assert world.report() is None


def test_the_sender_thread_is_woken_again_and_again(world: World) -> None:
    await_true(lambda: world.producers[0].wakeups >= 2)


def test_the_end_sends_what_was_submitted_and_reports_what_the_broker_did_not_acknowledge(world: World) -> None:
    world.submit(b"1")
    world.submit(b"2")
    world.delivery.close(PATIENCE_S)
    assert [value for value, _ in world.producers[0].sent] == [b"1", b"2"]
    assert world.producers[0].closed.is_set()
    assert all(isinstance(world.report(), KafkaTimeoutError) for _ in range(2))


def test_an_error_of_the_broker_reaches_the_report(world: World) -> None:
    world.submit(b"1")
    world.await_sent(1)[0].failure(OutOfOrderSequenceNumberError("gap"))
    assert isinstance(world.report(), OutOfOrderSequenceNumberError)
