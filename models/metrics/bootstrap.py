"""Paired bootstrap over users, and over days: intervals and p-values of the difference between two rankers.

Events of one user are correlated, so users are resampled, not events (Cameron, Gelbach & Miller, 2008); resampling
events would make the interval too narrow. So are events of one day: a difference that is seen on the days of one week
holds for other weeks only as far as the days agree. Where days are given they are resampled too, independently of the
users, and an event counts as often as its user times its day was drawn (Owen, "The pigeonhole bootstrap", Annals of
Applied Statistics, 2007).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.metrics.ranking import Gains

Clusters = NDArray[np.integer]
"""[N] the user, or the day, of each event"""
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
    baseline's mean, and never more than `most` of that mean, so that no margin is void where the mean is small."""

    fixed: float = 0.0
    share: float = 0.0
    most: float = 0.5

    def lowest_difference(self, theirs: float) -> float:
        """The lowest difference allowed, 0 or below, for a baseline with mean `theirs`."""
        return 0.0 - min(self.fixed + self.share * theirs, self.most * theirs)


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

        The difference has to be above both bounds of the margin, so the p-value is the larger of two.
        """
        return max(self._p_above(margin.fixed, margin.share), self._p_above(0.0, margin.most))

    def _p_above(self, fixed: float, share: float) -> float:
        """P-value of the null hypothesis that ours is at most (1 - share) · theirs - fixed.

        The share is of the true value of theirs, so the test statistic is ours - (1 - share) · theirs + fixed against
        0, as for a ratio of means (Hauschke, Kieser & Hothorn, 1999). The samples' statistics, shifted to the boundary
        of the null hypothesis, are its distribution under chance (Hall & Wilson, 1991): the p-value is the share of
        them that is at least as high as the observed one. The observed one counts as a sample too (Phipson & Smyth,
        2010), so no p-value is below 1 / (samples + 1).
        """
        observed = self.ours - (1 - share) * self.theirs
        by_chance = self.resampled_ours - (1 - share) * self.resampled_theirs - observed
        at_least_as_high = np.count_nonzero(by_chance >= observed + fixed)
        return (1 + int(at_least_as_high)) / (1 + len(by_chance))


@dataclass(frozen=True)
class ResampledMeans:
    """Means of several rankers over the same events, and the same means for each bootstrap sample."""

    observed: Gains  # [R]
    resampled: Gains  # [R, samples]

    def difference(self, ours: int, theirs: int) -> Bootstrap:
        """The bootstrap of two of them."""
        observed, resampled = self.observed, self.resampled
        return Bootstrap(float(observed[ours]), float(observed[theirs]), resampled[ours], resampled[theirs])


def resample_means(
    gains: Gains, user: Clusters, day: Clusters | None = None, *, samples: int = 2000, random_seed: int = 0
) -> ResampledMeans:
    """Means of R rankers' `gains` [R, N] over N events; `user` [N] and `day` [N] are what is resampled.

    Samples in which no event was drawn are left out. Raises `ValueError` without events.
    """
    if not len(user):
        raise ValueError("no events to compare on")
    _, users = np.unique(user, return_inverse=True)
    _, days = np.unique(np.zeros_like(user) if day is None else day, return_inverse=True)
    shape = int(users.max()) + 1, int(days.max()) + 1
    cell = users * shape[1] + days
    rows = [np.ones(len(user)), *gains]
    sums: Gains = np.stack(
        [np.bincount(cell, row, shape[0] * shape[1]).reshape(shape) for row in rows], dtype=np.float64
    )
    resampled = resampled_sums(sums, samples, np.random.default_rng(random_seed))
    resampled = resampled[:, resampled[0] > 0]
    total = sums.sum(axis=(1, 2))
    return ResampledMeans(total[1:] / total[0], resampled[1:] / resampled[0])


def paired_bootstrap(
    ours: Gains, theirs: Gains, user: Clusters, *, samples: int = 2000, random_seed: int = 0
) -> Bootstrap:
    """Bootstrap over users of ours and theirs, [N] each; see `resample_means`."""
    return resample_means(np.stack([ours, theirs]), user, samples=samples, random_seed=random_seed).difference(0, 1)


def paired_interval(ours: Gains, theirs: Gains, user: Clusters, *, samples: int = 2000) -> Interval:
    """Interval of `paired_bootstrap` over users."""
    return paired_bootstrap(ours, theirs, user, samples=samples).interval()


def resampled_sums(sums: Gains, samples: int, random: np.random.Generator) -> Gains:
    """Each row of `sums` [R, U, D] summed over users and over days that are drawn with replacement, [R, samples].

    A single day is not drawn: it is all there is.
    """
    rows, users, days = sums.shape
    by_user = np.moveaxis(sums, 1, 0).reshape(users, rows * days)
    batch = max(1, _MAX_DRAWS // users)
    resampled = np.empty((rows, samples))
    for start in range(0, samples, batch):
        size = min(batch, samples - start)
        by_day = (_draw_counts(size, users, random) @ by_user).reshape(size, rows, days)
        drawn_days = _draw_counts(size, days, random) if days > 1 else np.ones((size, 1))
        resampled[:, start : start + size] = np.einsum("srd,sd->rs", by_day, drawn_days)
    return resampled


def _draw_counts(samples: int, count: int, random: np.random.Generator) -> Gains:
    """How often each of `count` things is drawn in `count` draws with replacement, [samples, count]."""
    drawn = random.integers(count, size=(samples, count)) + count * np.arange(samples)[:, None]
    return np.bincount(drawn.ravel(), minlength=samples * count).reshape(samples, count).astype(np.float64)
