from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.experiments.gate_simulation import (
    CHAIN_LOSS,
    DAYS,
    HIT_RATE,
    SLICE,
    Simulation,
    SimulationConfig,
    Window,
    Worth,
    simulate,
)
from models.gate.release_gate import GateRule

SMALL = SimulationConfig(
    trials=20,
    users=200,
    chain_users=1500,
    power_users=(300,),
    power_gains=(0.0, 0.5),
    day_effects=(0.0, 3.0),
    rule=GateRule(samples=200),
)


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    return simulate(SMALL)


def test_rankers_are_worth_what_the_simulation_says() -> None:
    window = Window(3000, np.random.default_rng(0))
    hit = window.ranks(Worth(on_slice=0.5, elsewhere=1.0)) > 0
    assert hit[~window.on_slice].mean() == pytest.approx(HIT_RATE, rel=0.1)
    assert hit[window.on_slice].mean() == pytest.approx(0.5 * HIT_RATE, rel=0.1)


def test_an_effect_of_a_day_is_on_the_events_of_that_day() -> None:
    window = Window(3000, np.random.default_rng(0))
    hit = window.ranks(Worth(), np.eye(DAYS)[2]) > 0
    assert hit[window.day == 2].mean() == pytest.approx(2 * HIT_RATE, rel=0.1)
    assert hit[window.day != 2].mean() == pytest.approx(HIT_RATE, rel=0.1)


def test_rankers_of_equal_worth_agree_on_most_events() -> None:
    window = Window(500, np.random.default_rng(0))
    first, second = window.ranks(Worth()), window.ranks(Worth())
    assert 0.7 < (first == second).mean() < 1


def test_the_candidate_is_compared_with_all_that_the_gate_compares_it_with() -> None:
    window = Window(50, np.random.default_rng(0))
    paired = window.paired(window.ranks(Worth()), Worth(), [Worth(), Worth()])
    assert paired.incumbent is not None and paired.day is not None
    assert (len(paired.baselines), len(paired.seed_models), len(paired.earlier)) == (1, 1, 2)
    assert set(paired.slices) == {SLICE}


def test_days_that_differ_release_no_more_equal_candidates_if_they_are_drawn_too(simulation: Simulation) -> None:
    without_effect, with_effect = simulation.false_releases
    assert without_effect.share <= 0.15
    assert with_effect.share < with_effect.share_without_days, "users alone take seven days for all weeks"


def test_a_large_gain_is_seen(simulation: Simulation) -> None:
    none, large = simulation.power
    assert none.share <= 0.15
    assert large.share >= 0.8


def test_compared_with_earlier_releases_a_chain_keeps_more_of_a_slice(simulation: Simulation) -> None:
    without, with_earlier = simulation.chains
    assert (without.earlier_releases, with_earlier.earlier_releases) == (0, 5)
    assert without.slice_kept < with_earlier.slice_kept <= 1
    for chain in simulation.chains:
        assert chain.released <= 10
        assert chain.slice_kept >= (1 - CHAIN_LOSS) ** 10


def test_equal_random_seeds_give_equal_figures_and_the_work_is_counted() -> None:
    small = replace(SMALL, trials=1, chain_users=200)
    done: list[int] = []
    assert simulate(small, done.append) == simulate(small)
    assert sum(done) == small.windows
