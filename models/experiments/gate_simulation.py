"""The gate's error rates, on simulated windows: what it lets through, and what it holds back.

Nothing is trained. Users of unequal activity and taste act for seven days, and every ranker has the item of an event on
its slate with a probability of its own: `HIT_RATE` times the user's, times what the ranker is worth. Rankers of one
shop resemble each other, so they share the outcome of most events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.evaluation.contenders import PairedRanks
from models.evaluation.paired_differences import CO_VISIT, K
from models.gate.release_gate import EARLIER_RELEASES, GateRule, decide
from models.metrics.bootstrap import paired_bootstrap
from models.metrics.ranking import Gains, Ranks, discounted_gains
from models.stages import Advance

DAYS = 7
EVENTS_PER_USER = 12
"""Mean of a geometric distribution."""
HIT_RATE = 0.15
ALIKE_SHARE = 0.7
"""Events on which two rankers of equal worth agree."""
SLICE_SHARE = 0.25
"""Events on the one slice, here items new to the user."""
SLICE = "new_to_user"
BASELINE_WORTH = 0.8
"""Of the incumbent's; the seed model's too."""
CHAIN_LENGTH = 10
CHAIN_LOSS = 0.02
"""On the slice, at each step of a chain."""
CHAIN_GAIN = 0.1
"""Elsewhere, so that each step is superior overall."""


@dataclass(frozen=True)
class SimulationConfig:
    """How much is simulated."""

    trials: int = 200
    """Windows for each figure of false releases and of power; a chain counts for ten."""
    users: int = 1000
    """Of a window, where false releases are counted."""
    chain_users: int = 3000
    """Of a window of a chain. With fewer, most steps fail for want of power, whatever they are compared with."""
    power_users: Sequence[int] = (300, 1000, 3000)
    power_gains: Sequence[float] = (0.05, 0.1, 0.2)
    day_effects: Sequence[float] = (0.0, 1.0, 2.0)
    """Standard deviation that the days of a week give the difference, in standard errors over users."""
    rule: GateRule = field(default_factory=lambda: GateRule(samples=500))
    random_seed: int = 0

    @property
    def windows(self) -> int:
        """Simulated windows in all."""
        chains = 2 * max(1, self.trials // CHAIN_LENGTH) * CHAIN_LENGTH
        return self.trials * (len(self.day_effects) + len(self.power_users) * len(self.power_gains)) + chains


class FalseReleases(Struct, frozen=True, kw_only=True):
    """How often a candidate that is worth as much as the incumbent goes live."""

    day_effect: float
    share: float
    share_without_days: float
    """If users alone are drawn."""


class Power(Struct, frozen=True, kw_only=True):
    """How often a candidate that is worth more than the incumbent, on every slice, goes live."""

    users: int
    gain: float
    share: float


class Chain(Struct, frozen=True, kw_only=True):
    """Ten candidates in a row, each worse on the slice than the release that serves by then, and better elsewhere."""

    earlier_releases: int
    """How many releases before the incumbent each is compared with."""
    all_released: float
    """Share of the chains of which every candidate goes live."""
    released: float
    """Mean number of candidates that go live."""
    slice_kept: float
    """Mean of what is left of the first incumbent's worth on the slice."""


class Simulation(Struct, frozen=True, kw_only=True):
    """All figures."""

    trials: int
    users: int
    false_releases: list[FalseReleases]
    power: list[Power]
    chains: list[Chain]


@dataclass(frozen=True)
class Worth:
    """What a ranker is worth, as a multiple of the first incumbent: on the slice, and elsewhere."""

    on_slice: float = 1.0
    elsewhere: float = 1.0

    def times(self, on_slice: float, elsewhere: float) -> Worth:
        """The worth of a ranker that differs by these factors."""
        return Worth(self.on_slice * on_slice, self.elsewhere * elsewhere)


class Window:
    """The events of a week, and how rankers do on them."""

    def __init__(self, users: int, random: np.random.Generator) -> None:
        self.user = np.repeat(np.arange(users, dtype=np.int32), random.geometric(1 / EVENTS_PER_USER, users))
        events = len(self.user)
        self.day = random.integers(DAYS, size=events)
        self.on_slice = random.random(events) < SLICE_SHARE
        self._random = random
        self._rate = HIT_RATE * random.gamma(4, 1 / 4, users)[self.user]
        self._is_alike = random.random(events) < ALIKE_SHARE
        self._draw = random.random(events)
        self._place = random.integers(1, K + 1, events)

    def ranks(self, worth: Worth, by_day: Gains | float = 0.0) -> Ranks:
        """Places [M] of the events' items on the slates of a ranker; `by_day` [DAYS] is added to its worth."""
        events = len(self.user)
        draw = np.where(self._is_alike, self._draw, self._random.random(events))
        place = np.where(self._is_alike, self._place, self._random.integers(1, K + 1, events))
        day_effect = np.broadcast_to(by_day, DAYS)[self.day]
        factor = np.where(self.on_slice, worth.on_slice, worth.elsewhere) + day_effect
        return np.where(draw < self._rate * factor, place, 0).astype(np.int32)

    def paired(self, candidate: Ranks, incumbent: Worth, earlier: Sequence[Worth] = ()) -> PairedRanks:
        """The candidate, and all that it is compared with. Baseline and seed model are weaker than any release."""
        return PairedRanks(
            user=self.user,
            release_candidate=candidate,
            incumbent=self.ranks(incumbent),
            baselines={CO_VISIT: self._weaker()},
            seed_models={"als": self._weaker()},
            earlier={f"r{number:04}": self.ranks(worth) for number, worth in enumerate(earlier)},
            slices={SLICE: self.on_slice},
            day=self.day,
        )

    def _weaker(self) -> Ranks:
        return self.ranks(Worth().times(BASELINE_WORTH, BASELINE_WORTH))


def simulate(config: SimulationConfig, done: Advance = lambda n: None) -> Simulation:
    """All figures. Calls `done(n)` after every n of `config.windows`."""
    random = np.random.default_rng(config.random_seed)
    return Simulation(
        trials=config.trials,
        users=config.users,
        false_releases=[_false_releases(effect, config, random, done) for effect in config.day_effects],
        power=[
            _power(users, gain, config, random, done) for users in config.power_users for gain in config.power_gains
        ],
        chains=[_chains(earlier, config, random, done) for earlier in (0, EARLIER_RELEASES)],
    )


def _false_releases(
    day_effect: float, config: SimulationConfig, random: np.random.Generator, done: Advance
) -> FalseReleases:
    """An equal candidate: days favour it or the incumbent, and over all weeks neither."""
    deviation = day_effect * np.sqrt(DAYS) * _relative_standard_error(config.users, random)
    accepted = np.zeros((config.trials, 2), np.bool_)
    for trial in range(config.trials):
        window = Window(config.users, random)
        paired = window.paired(window.ranks(Worth(), random.normal(0, deviation, DAYS)), Worth())
        accepted[trial] = [decide(compared, config.rule).accepted for compared in (paired, replace(paired, day=None))]
        done(1)
    share, share_without_days = accepted.mean(axis=0).tolist()
    return FalseReleases(day_effect=day_effect, share=share, share_without_days=share_without_days)


def _relative_standard_error(users: int, random: np.random.Generator, windows: int = 10) -> float:
    """Of the difference in NDCG@20 of two equal rankers, over users, as a share of what each reaches."""
    errors = []
    for _ in range(windows):
        window = Window(users, random)
        ours, theirs = (discounted_gains(window.ranks(Worth()), K) for _ in range(2))
        bootstrap = paired_bootstrap(ours, theirs, window.user, samples=200)
        errors.append((bootstrap.resampled_ours - bootstrap.resampled_theirs).std() / bootstrap.theirs)
    return float(np.mean(errors))


def _power(users: int, gain: float, config: SimulationConfig, random: np.random.Generator, done: Advance) -> Power:
    better, accepted = Worth().times(1 + gain, 1 + gain), 0
    for _ in range(config.trials):
        window = Window(users, random)
        accepted += decide(window.paired(window.ranks(better), Worth()), config.rule).accepted
        done(1)
    return Power(users=users, gain=gain, share=accepted / config.trials)


def _chains(earlier: int, config: SimulationConfig, random: np.random.Generator, done: Advance) -> Chain:
    chains = max(1, config.trials // CHAIN_LENGTH)
    served = [_chain(earlier, config, random, done) for _ in range(chains)]
    released: NDArray[np.int64] = np.array([len(releases) - 1 for releases in served])
    return Chain(
        earlier_releases=earlier,
        all_released=float((released == CHAIN_LENGTH).mean()),
        released=float(released.mean()),
        slice_kept=float(np.mean([releases[-1].on_slice for releases in served])),
    )


def _chain(earlier: int, config: SimulationConfig, random: np.random.Generator, done: Advance) -> list[Worth]:
    """What the releases of one chain are worth, in the order in which they went live; the first incumbent first."""
    served = [Worth()]
    for _ in range(CHAIN_LENGTH):
        window = Window(config.chain_users, random)
        *before, incumbent = served
        candidate = incumbent.times(1 - CHAIN_LOSS, 1 + CHAIN_GAIN)
        compared = before[-earlier:] if earlier else []
        if decide(window.paired(window.ranks(candidate), incumbent, compared), config.rule).accepted:
            served.append(candidate)
        done(1)
    return served
