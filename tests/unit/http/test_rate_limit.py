from __future__ import annotations

import pytest

from anabranch.http.problems import HttpProblem
from anabranch.http.rate_limit import RateLimit


class Clock:
    """The time that a test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def retry_after_s(limit: RateLimit, key: str | None = "shop") -> int:
    with pytest.raises(HttpProblem) as raised:
        limit.charge(key, 1)
    assert raised.value.status == 429
    return int(raised.value.headers["Retry-After"])


def test_a_key_may_send_a_seconds_events_at_once_and_as_many_each_second_after(clock: Clock) -> None:
    limit = RateLimit(8, clock)  # a power of two: sums of its inverse are exact
    for second in range(5):
        clock.now_s = 100.0 + second
        for _ in range(8):
            limit.charge("shop", 1)
        assert retry_after_s(limit) == 1


def test_a_request_of_any_size_passes_and_is_paid_for_by_waiting(clock: Clock) -> None:
    limit = RateLimit(10, clock)
    limit.charge("shop", 1_000)
    assert retry_after_s(limit) == 99
    clock.now_s += 98.9
    assert retry_after_s(limit) == 1
    clock.now_s += 0.2
    limit.charge("shop", 1)


def test_over_time_a_key_has_no_more_than_its_rate(clock: Clock) -> None:
    limit, events = RateLimit(50, clock), 0
    for _ in range(10_000):
        clock.now_s += 0.01
        try:
            limit.charge("shop", 7)
            events += 7
        except HttpProblem:
            continue
    assert 50 * 100 <= events <= 50 * 101 + 7


def test_keys_have_buckets_of_their_own_and_all_without_a_key_share_one(clock: Clock) -> None:
    limit = RateLimit(1, clock)
    limit.charge("shop", 5)
    limit.charge("blog", 5)
    limit.charge(None, 5)
    assert [retry_after_s(limit, key) for key in ("shop", "blog", None)] == [4, 4, 4]


def test_what_is_free_of_charge_is_refused_while_the_bucket_is_empty(clock: Clock) -> None:
    limit = RateLimit(1, clock)
    limit.charge("shop", 0)
    limit.charge("shop", 1)
    with pytest.raises(HttpProblem):
        limit.charge("shop", 0)


def test_without_a_rate_nothing_is_refused(clock: Clock) -> None:
    limit = RateLimit(None, clock)
    for _ in range(3):
        limit.charge("shop", 1_000_000)
