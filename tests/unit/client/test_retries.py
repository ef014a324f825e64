"""When a client sends a request again, and how long it waits."""

from __future__ import annotations

from anabranch.client.retries import RetryPolicy


def longest(low: float, high: float) -> float:
    return high


def test_the_longest_wait_doubles_up_to_its_bound() -> None:
    policy = RetryPolicy(attempts=100, first_wait_s=0.2, max_wait_s=1.0, deadline_s=1_000, uniform=longest)
    assert [policy.wait_s(failures, 0.0, 0.0) for failures in range(1, 6)] == [0.2, 0.4, 0.8, 1.0, 1.0]
    assert policy.wait_s(99, 0.0, 0.0) == 1.0


def test_a_wait_is_drawn_from_all_that_are_no_longer() -> None:
    draws: list[tuple[float, float]] = []
    policy = RetryPolicy(first_wait_s=0.2, uniform=lambda low, high: draws.append((low, high)) or 0.1)
    assert policy.wait_s(1, 0.0, 0.0) == 0.1
    assert draws == [(0.0, 0.2)]


def test_the_wait_that_the_server_asks_for_comes_first() -> None:
    policy = RetryPolicy(first_wait_s=0.2, uniform=longest)
    assert policy.wait_s(1, 0.0, 3.0) == 3.2


def test_after_the_last_attempt_or_beyond_the_deadline_there_is_no_other() -> None:
    policy = RetryPolicy(attempts=3, first_wait_s=1.0, deadline_s=10.0, uniform=longest)
    assert policy.wait_s(2, 0.0, 0.0) is not None
    assert policy.wait_s(3, 0.0, 0.0) is None
    assert policy.wait_s(1, 9.5, 0.0) is None
    assert policy.wait_s(1, 0.0, 60.0) is None, "the server asks for more than the caller waits"
    assert RetryPolicy(attempts=1).wait_s(1, 0.0, 0.0) is None
