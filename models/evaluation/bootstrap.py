"""Paired bootstrap over users: how sure a difference between two rankers is.

Events of one user are alike, so users are drawn, not events (Cameron, Gelbach & Miller, 2008); drawing events
would make the interval too narrow.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.evaluation.metrics import Gains

_DRAWS_AT_ONCE = 1 << 21


class Interval(Struct, frozen=True, kw_only=True):
    """A difference of means with its percentile interval."""

    difference: float
    low: float
    high: float


def paired_interval(
    ours: Gains,
    theirs: Gains,
    user: NDArray[np.integer],
    *,
    samples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Interval of mean(ours) - mean(theirs) over the same N events; `user` [N] says whose each is.

    Raises `ValueError` without events.
    """
    if not len(user):
        raise ValueError("no events to compare on")
    _, cluster = np.unique(user, return_inverse=True)
    events = np.bincount(cluster).astype(np.float64)  # [U]
    gained = np.bincount(cluster, weights=ours - theirs).astype(np.float64)  # [U]
    resampled = _ratios(gained, events, samples, np.random.default_rng(seed))
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(difference=float(gained.sum() / events.sum()), low=float(low), high=float(high))


def _ratios(gained: Gains, events: Gains, samples: int, random: np.random.Generator) -> Gains:
    """sum(gained) / sum(events) of users drawn with replacement, [samples]."""
    users = len(events)
    at_once = max(1, _DRAWS_AT_ONCE // users)
    ratios = np.empty(samples)
    for start in range(0, samples, at_once):
        drawn = random.integers(users, size=(min(at_once, samples - start), users))
        ratios[start : start + at_once] = gained[drawn].sum(axis=1) / events[drawn].sum(axis=1)
    return ratios
