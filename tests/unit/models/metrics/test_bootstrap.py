from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from models.metrics.bootstrap import Bootstrap, NonInferiorityMargin, paired_bootstrap, paired_interval, resample_means


def test_the_difference_is_of_the_means_over_events() -> None:
    interval = paired_interval(np.array([1.0, 1, 0]), np.array([0.0, 1, 0]), np.array([1, 1, 2]))
    assert interval.difference == pytest.approx(1 / 3)
    assert interval.low <= interval.difference <= interval.high


def test_equal_random_seeds_give_equal_intervals() -> None:
    random = np.random.default_rng(0)
    ours, theirs, user = random.random(100), random.random(100), random.integers(20, size=100)
    first, again, other = (paired_bootstrap(ours, theirs, user, random_seed=seed).interval() for seed in (3, 3, 4))
    assert first == again != other


def test_rankers_that_never_differ_have_an_interval_of_zero() -> None:
    gains = np.random.default_rng(0).random(50)
    interval = paired_interval(gains, gains, np.arange(50))
    assert (interval.low, interval.difference, interval.high) == (0, 0, 0)


def test_many_events_of_one_user_narrow_the_interval_little() -> None:
    random = np.random.default_rng(0)
    taste = random.normal(size=200)
    user = np.repeat(np.arange(200), 20)
    ours, theirs = taste[user], np.zeros(len(user))
    by_user = paired_interval(ours, theirs, user)
    by_event = paired_interval(ours, theirs, np.arange(len(user)))
    assert by_user.high - by_user.low > 4 * (by_event.high - by_event.low)


def test_the_interval_is_the_normal_one_for_many_users() -> None:
    random = np.random.default_rng(0)
    ours = random.normal(0.1, 1, size=4000)
    interval = paired_interval(ours, np.zeros(4000), np.arange(4000), samples=4000)
    error = ours.std() / np.sqrt(4000)
    assert interval.low == pytest.approx(ours.mean() - 1.96 * error, abs=0.1 * error)
    assert interval.high == pytest.approx(ours.mean() + 1.96 * error, abs=0.1 * error)


def test_no_events_are_an_error() -> None:
    with pytest.raises(ValueError, match="no events"):
        paired_interval(np.empty(0), np.empty(0), np.empty(0, np.int64))


def test_a_p_value_is_the_share_of_samples_by_chance_at_least_as_high() -> None:
    """Observed +0.3; samples +0.1, +0.3 and +0.7, by chance -0.2, 0 and +0.4; and the observed one."""
    bootstrap = Bootstrap(0.5, 0.2, np.array([0.3, 0.5, 0.9]), np.array([0.2, 0.2, 0.2]))
    assert bootstrap.p_above(NonInferiorityMargin()) == 2 / 4
    assert bootstrap.p_above(NonInferiorityMargin(fixed=0.05)) == 2 / 4
    assert bootstrap.p_above(NonInferiorityMargin(fixed=0.2, most=1.0)) == 1 / 4
    assert bootstrap.p_above(NonInferiorityMargin(fixed=0.2)) == 2 / 4, "of 0.2 at most half may be lost"


def test_a_margin_can_be_a_share_of_the_baseline() -> None:
    """0.18 is a tenth less than 0.2, just at the margin; with 0.01 on top it is above it."""
    bootstrap = Bootstrap(0.18, 0.2, np.array([0.175, 0.185]), np.array([0.2, 0.2]))
    assert NonInferiorityMargin(fixed=0.01, share=0.1).lowest_difference(0.2) == pytest.approx(-0.03)
    assert bootstrap.p_above(NonInferiorityMargin(share=0.1)) == pytest.approx(2 / 3)
    assert bootstrap.p_above(NonInferiorityMargin(fixed=0.01, share=0.1)) == pytest.approx(1 / 3)


def test_no_p_value_is_0() -> None:
    ours, theirs, user = np.ones(100), np.zeros(100), np.arange(100)
    assert paired_bootstrap(ours, theirs, user, samples=99).p_above(NonInferiorityMargin()) == 1 / 100


def test_rankers_that_never_differ_have_a_p_value_of_1() -> None:
    gains = np.random.default_rng(0).random(50)
    assert paired_bootstrap(gains, gains, np.arange(50)).p_above(NonInferiorityMargin()) == 1


def test_under_the_null_hypothesis_one_p_value_in_twenty_is_below_one_twentieth() -> None:
    """Users of unequal sizes, with correlated events; the true difference is the margin, 1/5 of the baseline."""
    p_values = []
    for seed in range(400):
        random = np.random.default_rng(seed)
        user = np.repeat(np.arange(60), random.geometric(0.2, 60))
        taste = random.uniform(0, 0.5, 60)[user]
        theirs, ours = random.random(len(user)) < taste, random.random(len(user)) < 0.8 * taste
        bootstrap = paired_bootstrap(ours.astype(float), theirs.astype(float), user, samples=200, random_seed=seed)
        p_values.append(bootstrap.p_above(NonInferiorityMargin(share=0.2)))
    assert np.mean(np.array(p_values) <= 0.05) == pytest.approx(0.05, abs=0.033)  # three standard errors of 400
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.05)


def test_the_p_value_is_the_normal_one_for_many_users() -> None:
    random = np.random.default_rng(1)
    ours = random.normal(0.02, 1, size=4000)
    bootstrap = paired_bootstrap(ours, np.zeros(4000), np.arange(4000), samples=4000)
    expected = 1 - NormalDist().cdf(float(ours.mean()) / (float(ours.std()) / np.sqrt(4000)))
    assert bootstrap.p_above(NonInferiorityMargin()) == pytest.approx(expected, abs=0.02)


def test_a_margin_is_never_more_than_half_of_what_the_baseline_reaches() -> None:
    margin = NonInferiorityMargin(fixed=0.001, share=0.1)
    assert [margin.lowest_difference(theirs) for theirs in (0.5, 0.01, 0.001, 0.0)] == pytest.approx(
        [-0.051, -0.002, -0.0005, 0.0]
    )


def test_days_that_disagree_widen_the_interval_and_a_single_day_does_not() -> None:
    random = np.random.default_rng(0)
    user, day = np.repeat(np.arange(1000), 7), np.tile(np.arange(7), 1000)
    theirs = random.random(7000)
    ours = theirs + random.normal(0, 0.1, 7)[day] + random.normal(0, 0.1, 7000)
    widths = []
    for days in (None, day, day * 0):
        low, high = np.quantile(
            np.subtract(*resample_means(np.stack([ours, theirs]), user, days).resampled), [0.025, 0.975]
        )
        widths.append(high - low)
    assert widths[1] > 5 * widths[0]
    assert widths[2] == widths[0]


def test_intervals_over_users_and_days_hold_for_other_users_and_days() -> None:
    """The true difference is 0; 30 days, since an interval of few days is too narrow, as with any bootstrap."""
    covered = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        user, day = np.repeat(np.arange(100), 30), np.tile(np.arange(30), 100)
        ours = random.normal(0, 0.2, 100)[user] + random.normal(0, 0.2, 30)[day] + random.normal(0, 1, 3000)
        means = resample_means(np.stack([ours, ours * 0]), user, day, samples=200, random_seed=seed)
        interval = means.difference(0, 1).interval()
        covered += interval.low <= 0 <= interval.high
    assert covered >= 88
