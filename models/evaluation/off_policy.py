"""Off-policy estimate: a release candidate's metric from feedback on slates that another ranker randomised.

The gate does not use it: the gate replays its window with every ranker on the same events. This is for the question
that a replay cannot answer, whether users who are shown other slates act differently.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from anabranch.errors import AnabranchError
from anabranch.messages import Feedback
from anabranch.ranking.pipeline.feedback import NOT_ON_SLATE
from models.metrics.ranking import Gains, Ranks, discounted_gains

K = 20


class NoPropensities(AnabranchError):
    """Feedback on slates without a logged propensity."""


class Estimate(Struct, frozen=True, kw_only=True):
    """Estimated mean of a metric if the release candidate had served."""

    mean: float
    effective_events: float
    """Effective sample size (Kish, 1965): this many events served by the candidate itself would be as precise. It is
    small if the two rankers rarely agree."""


def off_policy(
    feedback: Sequence[Feedback],
    probability: NDArray[np.float64],
    gains: Callable[[Ranks, int], Gains] = discounted_gains,
) -> Estimate:
    """Self-normalised inverse propensity score estimate (Swaminathan & Joachims, 2015) of a metric at 20.

    `probability` [N] is the probability with which the candidate would have shown each logged slate. The weight of an
    event is that divided by the logged propensity; events about no item or without a slate are left out. The estimate
    is consistent if every slate that the candidate can show has a propensity above 0.

    Raises `NoPropensities` if a propensity is missing or outside (0, 1], `ValueError` if all weights are 0.
    """
    has_outcome = [row.release is not None and row.event.item_id is not None for row in feedback]
    outcomes = [row for row, included in zip(feedback, has_outcome, strict=True) if included]
    weight = probability[has_outcome] / _propensities(outcomes)
    if not weight.sum() > 0:
        raise ValueError(
            "the release candidate would have shown none of the logged slates: there is nothing to estimate from"
        )
    ranks = np.array([NOT_ON_SLATE if row.rank is None else row.rank for row in outcomes], np.int32)
    mean = float(np.average(gains(ranks, K), weights=weight))
    return Estimate(mean=mean, effective_events=float(weight.sum() ** 2 / (weight**2).sum()))


def _propensities(outcomes: Sequence[Feedback]) -> NDArray[np.float64]:
    invalid = sum(row.propensity is None or not 0 < row.propensity <= 1 for row in outcomes)
    if invalid:
        raise NoPropensities(
            f"{invalid} of {len(outcomes)} slates have no `propensity` in (0, 1]. Without the probability with which a "
            "slate was shown, an estimate would measure the old ranker's choices. Randomise slates and log "
            "propensities, or compare by replay, as the gate does"
        )
    return np.array([row.propensity for row in outcomes], np.float64)
