from __future__ import annotations

import numpy as np
import pytest

from models.evaluation.bootstrap import paired_interval


def test_the_difference_is_of_the_means_over_events() -> None:
    interval = paired_interval(np.array([1.0, 1, 0]), np.array([0.0, 1, 0]), np.array([1, 1, 2]))
    assert interval.difference == pytest.approx(1 / 3)
    assert interval.low <= interval.difference <= interval.high


def test_an_equal_seed_gives_an_equal_interval() -> None:
    random = np.random.default_rng(0)
    ours, theirs, user = random.random(100), random.random(100), random.integers(20, size=100)
    assert paired_interval(ours, theirs, user, seed=3) == paired_interval(ours, theirs, user, seed=3)
    assert paired_interval(ours, theirs, user, seed=3) != paired_interval(ours, theirs, user, seed=4)


def test_rankers_that_never_differ_have_an_interval_of_zero() -> None:
    gains = np.random.default_rng(0).random(50)
    interval = paired_interval(gains, gains, np.arange(50))
    assert (interval.low, interval.difference, interval.high) == (0, 0, 0)


def test_events_of_one_user_are_worth_little_more_than_one_event() -> None:
    random = np.random.default_rng(0)
    taste = random.normal(size=200)
    user = np.repeat(np.arange(200), 20)
    ours, theirs = taste[user], np.zeros(len(user))
    by_user = paired_interval(ours, theirs, user)
    by_event = paired_interval(ours, theirs, np.arange(len(user)))
    assert by_user.high - by_user.low > 4 * (by_event.high - by_event.low)


def test_the_interval_is_the_normal_one_where_there_are_many_users() -> None:
    random = np.random.default_rng(0)
    ours = random.normal(0.1, 1, size=4000)
    interval = paired_interval(ours, np.zeros(4000), np.arange(4000), samples=4000)
    error = ours.std() / np.sqrt(4000)
    assert interval.low == pytest.approx(ours.mean() - 1.96 * error, abs=0.1 * error)
    assert interval.high == pytest.approx(ours.mean() + 1.96 * error, abs=0.1 * error)


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(ValueError, match="no events"):
        paired_interval(np.empty(0), np.empty(0), np.empty(0, np.int64))
