"""Paired bootstrap over users: how sure a difference between two rankers is.

Events of one user are alike, so users are drawn, not events (Cameron, Gelbach & Miller, 2008); drawing events
would make the interval too narrow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.metrics.ranking import Gains

_DRAWS_AT_ONCE = 1 << 21


class Interval(Struct, frozen=True, kw_only=True):
    """A difference of means with its 95 % percentile interval."""

    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class NonInferiorityMargin:
    """How much may be lost against a rival and still count as not worse: an amount, and a share of what they reach."""

    fixed: float = 0.0
    share: float = 0.0

    def lowest_difference(self, theirs: float) -> float:
        """The lowest difference there may be, 0 or below."""
        return 0.0 - self.fixed - self.share * theirs


@dataclass(frozen=True)
class Bootstrap:
    """Two means over the same events, and the same of so many samples of users drawn with replacement."""

    ours: float
    theirs: float
    resampled_ours: Gains  # [samples]
    resampled_theirs: Gains  # [samples]

    def interval(self) -> Interval:
        """Of ours - theirs."""
        low, high = np.quantile(self.resampled_ours - self.resampled_theirs, [0.025, 0.975])
        return Interval(difference=self.ours - self.theirs, low=float(low), high=float(high))

    def p_above(self, margin: NonInferiorityMargin) -> float:
        """One-sided p-value of the hypothesis that ours - theirs is `margin.lowest_difference(theirs)` or less.

        The share is of what theirs is in truth, so the contrast ours - (1 - share) theirs + fixed is tested against 0,
        as for a ratio of means (Hauschke, Kieser & Hothorn, 1999). The samples' contrasts, moved so that the hypothesis
        just holds, are what chance does under it (Hall & Wilson, 1991): the p-value is how often they come as high as
        the contrast seen. That one counts as a sample too (Phipson & Smyth, 2010), so none is below 1 / (samples + 1).
        """
        kept = 1 - margin.share
        seen = self.ours - kept * self.theirs
        by_chance = self.resampled_ours - kept * self.resampled_theirs - seen
        as_high = np.count_nonzero(by_chance >= seen + margin.fixed)
        return (1 + int(as_high)) / (1 + len(by_chance))


def paired_bootstrap(
    ours: Gains, theirs: Gains, user: NDArray[np.integer], *, samples: int = 2000, random_seed: int = 0
) -> Bootstrap:
    """Means of ours and theirs over the same N events; `user` [N] says whose each is.

    Raises `ValueError` without events.
    """
    if not len(user):
        raise ValueError("no events to compare on")
    _, cluster = np.unique(user, return_inverse=True)
    sums = [np.bincount(cluster, weights) for weights in (np.ones(len(user)), ours, theirs)]
    per_user = np.stack(sums).astype(np.float64)  # [3, U] events, ours, theirs
    resampled = _sums(per_user, samples, np.random.default_rng(random_seed))
    return Bootstrap(
        ours=float(ours.mean()),
        theirs=float(theirs.mean()),
        resampled_ours=resampled[1] / resampled[0],
        resampled_theirs=resampled[2] / resampled[0],
    )


def paired_interval(ours: Gains, theirs: Gains, user: NDArray[np.integer], *, samples: int = 2000) -> Interval:
    """The interval of `paired_bootstrap`."""
    return paired_bootstrap(ours, theirs, user, samples=samples).interval()


def _sums(per_user: Gains, samples: int, random: np.random.Generator) -> Gains:
    """Each row of `per_user` [R, U] summed over users drawn with replacement, [R, samples]."""
    users = per_user.shape[1]
    at_once = max(1, _DRAWS_AT_ONCE // users)
    sums = np.empty((len(per_user), samples))
    for start in range(0, samples, at_once):
        drawn = random.integers(users, size=(min(at_once, samples - start), users))
        for row, of_user in zip(sums, per_user, strict=True):
            row[start : start + at_once] = of_user[drawn].sum(axis=1)
    return sums
