from __future__ import annotations

import logging

import pytest

from anabranch.throttle import FAILURES_INTERVAL_S, FailureLog, Throttle


class Clock:
    """Seconds, as a test sets them."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_an_action_is_due_once_per_interval() -> None:
    clock = Clock()
    due = Throttle(10, clock)
    assert [due(), due()] == [True, False]
    clock.now_s += 9.9
    assert not due()
    clock.now_s += 0.1
    assert [due(), due()] == [True, False]


def test_failures_are_logged_once_per_interval_with_their_number(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    failures = FailureLog(logging.getLogger("test"), "requests were not acknowledged", clock)
    for number in range(5):
        failures.failed(OSError(f"error {number}"))
    clock.now_s += FAILURES_INTERVAL_S
    failures.failed(OSError("error 5"))
    assert caplog.messages == [
        "1 requests were not acknowledged; the newest: OSError: error 0",
        "5 requests were not acknowledged; the newest: OSError: error 5",
    ]
