from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.evaluation.contenders import PairedRanks
from models.evaluation.off_policy import MIN_EXPLORED_USERS, ExposedEvents, exposure_estimate
from models.metrics.bootstrap import paired_bootstrap
from models.metrics.ranking import discounted_gains
from tests.support.shown_items import ShownItems

SAMPLES = 300
WORLD = ShownItems(users=300, slates=40)
"""The candidate ranks the items first that users like twice as much, and that the incumbent shows only by chance."""


def test_where_users_act_on_what_is_shown_replay_prefers_what_served_and_the_estimate_the_better_ranker() -> None:
    exposed = WORLD.feedback(random_seed=0)
    gains = (discounted_gains(ranks, 20) for ranks in (exposed.release_candidate, exposed.incumbent))
    replay = paired_bootstrap(*gains, exposed.user, samples=SAMPLES).interval()
    exposure = exposure_estimate(exposed, SAMPLES)
    assert replay.high < 0
    assert exposure.is_used
    assert exposure.improvement.low > 0
    assert exposure.improvement.low <= WORLD.true_improvement <= exposure.improvement.high


@pytest.mark.parametrize("world", [WORLD, replace(WORLD, even=True)], ids=["candidate better", "items liked alike"])
def test_the_interval_covers_the_true_value_in_nine_of_ten_worlds_at_least(world: ShownItems) -> None:
    """The interval is one of 95 %; of 60 worlds, 54 or more are covered with a probability of 0.97."""
    intervals = [exposure_estimate(world.feedback(seed), samples=200).improvement for seed in range(60)]
    covered = [interval.low <= world.true_improvement <= interval.high for interval in intervals]
    assert np.mean(covered) >= 0.9
    means = np.array([interval.difference for interval in intervals])
    assert abs(means.mean() - world.true_improvement) < 3 * means.std() / np.sqrt(len(means)), "and it is not biased"


THREE_EVENTS = PairedRanks(
    user=np.array([0, 1, 2], np.int32),
    release_candidate=np.array([1, 0, 1], np.int32),
    incumbent=np.array([0, 1, 1], np.int32),
    baselines={"co_visit": np.zeros(3, np.int32)},
    propensity=np.array([0.25, 1.0, np.nan]),
)


def test_events_are_weighted_by_the_inverse_of_their_propensities() -> None:
    exposed = ExposedEvents.from_paired(THREE_EVENTS)
    assert exposed is not None
    result = exposure_estimate(exposed, SAMPLES)
    assert (result.events, result.explored_events, result.explored_users) == (2, 1, 1)
    assert (result.candidate, result.incumbent) == pytest.approx((4 / 5, 1 / 5))
    assert result.improvement.difference == pytest.approx(3 / 5)
    assert result.effective_events == pytest.approx(25 / 17)


def test_without_propensities_or_without_an_incumbent_there_is_nothing_to_estimate_from() -> None:
    assert ExposedEvents.from_paired(replace(THREE_EVENTS, propensity=None)) is None
    assert ExposedEvents.from_paired(replace(THREE_EVENTS, propensity=np.full(3, np.nan))) is None
    assert ExposedEvents.from_paired(replace(THREE_EVENTS, incumbent=None)) is None


def test_with_few_explored_users_the_estimate_decides_nothing() -> None:
    few = replace(WORLD, users=150).feedback(random_seed=0)
    worse = replace(few, release_candidate=few.incumbent, incumbent=few.release_candidate)
    result = exposure_estimate(worse, SAMPLES)
    assert result.explored_users < MIN_EXPLORED_USERS
    assert result.improvement.high < 0
    assert not result.is_used
    assert result.holds
