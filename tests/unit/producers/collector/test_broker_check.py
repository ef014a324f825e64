from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from kafka.errors import KafkaConnectionError

from anabranch.errors import BrokerUnavailable
from producers.collector import broker_check
from producers.collector.broker_check import STALE_AFTER_S, BrokerCheck


class Broker:
    """A broker that a test takes away."""

    def __init__(self) -> None:
        self.topics = {"events": 4}
        self.error: Exception | None = None
        self.now_s = 0.0
        self.open = 0

    def connect(self) -> Broker:
        if self.error is not None:
            raise self.error
        self.open += 1
        return self

    def partitions(self, names: list[str]) -> dict[str, int]:
        if self.error is not None:
            raise self.error
        return {name: self.topics[name] for name in names if name in self.topics}

    def close(self) -> None:
        self.open -= 1


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def check(broker: Broker) -> BrokerCheck:
    return BrokerCheck("events", broker.connect, lambda: broker.now_s)


def test_nothing_is_missing_once_the_broker_has_the_topic(broker: Broker, check: BrokerCheck) -> None:
    assert check.missing is not None, "before the first answer"
    check.check()
    check.check()
    assert check.missing is None
    assert broker.open == 1, "one connection serves every check"


def test_a_missing_topic_is_named(broker: Broker, check: BrokerCheck) -> None:
    broker.topics.clear()
    check.check()
    assert check.missing == "there is no topic events"


@pytest.mark.parametrize("error", [KafkaConnectionError("gone"), BrokerUnavailable("gone")])
def test_a_broker_that_fails_is_missing_until_it_answers_again(
    broker: Broker, check: BrokerCheck, error: Exception
) -> None:
    check.check()
    broker.error = error
    check.check()
    assert "gone" in str(check.missing)
    assert broker.open == 0, "the connection is made anew"
    broker.error = None
    check.check()
    assert check.missing is None


def test_an_old_answer_does_not_count(broker: Broker, check: BrokerCheck) -> None:
    check.check()
    broker.now_s = STALE_AFTER_S
    assert check.missing is None
    broker.now_s += 1
    assert check.missing == "the broker has not answered for 16 s"


def test_the_thread_outlives_an_error_that_nobody_expected(
    broker: Broker, check: BrokerCheck, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(broker_check, "INTERVAL_S", 0.01)
    broker.error, stop = RuntimeError("odd"), threading.Event()
    check.start(stop)
    try:
        _await(lambda: "odd" in caplog.text)
        broker.error = None
        _await(lambda: check.missing is None)
    finally:
        stop.set()


def _await(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
