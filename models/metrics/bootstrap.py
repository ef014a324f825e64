"""Paired bootstrap over users: confidence intervals and p-values of the difference between two rankers.

Events of one user are correlated, so users are resampled, not events (Cameron, Gelbach & Miller, 2008); resampling
events would make the interval too narrow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.metrics.ranking import Gains

_MAX_DRAWS = 1 << 21
"""Random numbers in memory at a time."""


class Interval(Struct, frozen=True, kw_only=True):
    """A difference of means with its 95 % percentile interval."""

    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class NonInferiorityMargin:
    """How much worse than the baseline a ranker may be and still count as non-inferior: an amount plus a share of the
    baseline's mean."""

    fixed: float = 0.0
    share: float = 0.0

    def lowest_difference(self, theirs: float) -> float:
        """The lowest difference allowed, 0 or below, for a baseline with mean `theirs`."""
        return 0.0 - self.fixed - self.share * theirs


@dataclass(frozen=True)
class Bootstrap:
    """Two means over the same events, and the same two means for each bootstrap sample of users."""

    ours: float
    theirs: float
    resampled_ours: Gains  # [samples]
    resampled_theirs: Gains  # [samples]

    def interval(self) -> Interval:
        """Interval of ours - theirs."""
        low, high = np.quantile(self.resampled_ours - self.resampled_theirs, [0.025, 0.975])
        return Interval(difference=self.ours - self.theirs, low=float(low), high=float(high))

    def p_above(self, margin: NonInferiorityMargin) -> float:
        """One-sided p-value of the null hypothesis that ours - theirs is at most `margin.lowest_difference(theirs)`.

        The margin's share is of the true value of theirs, so the test statistic is ours - (1 - share) · theirs + fixed
        against 0, as for a ratio of means (Hauschke, Kieser & Hothorn, 1999). The samples' statistics, shifted to the
        boundary of the null hypothesis, are its distribution under chance (Hall & Wilson, 1991): the p-value is the
        share of them that is at least as high as the observed one. The observed one counts as a sample too (Phipson &
        Smyth, 2010), so no p-value is below 1 / (samples + 1).
        """
        required_share = 1 - margin.share
        observed = self.ours - required_share * self.theirs
        by_chance = self.resampled_ours - required_share * self.resampled_theirs - observed
        at_least_as_high = np.count_nonzero(by_chance >= observed + margin.fixed)
        return (1 + int(at_least_as_high)) / (1 + len(by_chance))


def paired_bootstrap(
    ours: Gains, theirs: Gains, user: NDArray[np.integer], *, samples: int = 2000, random_seed: int = 0
) -> Bootstrap:
    """Bootstrap of ours and theirs over the same N events; `user` [N] is each event's user.

    Raises `ValueError` without events.
    """
    if not len(user):
        raise ValueError("no events to compare on")
    _, cluster = np.unique(user, return_inverse=True)
    sums = [np.bincount(cluster, weights) for weights in (np.ones(len(user)), ours, theirs)]
    per_user = np.stack(sums).astype(np.float64)  # [3, U]: events, ours, theirs
    resampled = resampled_sums(per_user, samples, np.random.default_rng(random_seed))
    return Bootstrap(
        ours=float(ours.mean()),
        theirs=float(theirs.mean()),
        resampled_ours=resampled[1] / resampled[0],
        resampled_theirs=resampled[2] / resampled[0],
    )


def paired_interval(ours: Gains, theirs: Gains, user: NDArray[np.integer], *, samples: int = 2000) -> Interval:
    """Interval of `paired_bootstrap`."""
    return paired_bootstrap(ours, theirs, user, samples=samples).interval()


def resampled_sums(per_user: Gains, samples: int, random: np.random.Generator) -> Gains:
    """Each row of `per_user` [R, U] summed over users drawn with replacement, [R, samples]."""
    users = per_user.shape[1]
    batch = max(1, _MAX_DRAWS // users)
    sums = np.empty((len(per_user), samples))
    for start in range(0, samples, batch):
        drawn = random.integers(users, size=(min(batch, samples - start), users))
        for row, user_sums in zip(sums, per_user, strict=True):
            row[start : start + batch] = user_sums[drawn].sum(axis=1)
    return sums
