"""What a candidate would have scored, from the feedback to slates that another ranker showed at random.

The gate never asks here: it replays its window with every ranker, on the same events. This is for what a replay cannot
tell, whether users who are *shown* other slates do other things.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from anabranch.errors import AnabranchError
from anabranch.messages import Feedback
from anabranch.ranking.pipeline.rank import NOT_ON_SLATE
from models.metrics.ranking import Gains, Ranks, discounted_gains

K = 20


class NoPropensities(AnabranchError):
    """Feedback to slates that were shown with a probability nobody knows, or with none."""


class Estimate(Struct, frozen=True, kw_only=True):
    """A metric's mean under the candidate."""

    mean: float
    effective_events: float
    """So many events shown by the candidate itself would be as sure (Kish, 1965): few, where the two rankers agree on
    little."""


def off_policy(
    feedback: Sequence[Feedback],
    probability: NDArray[np.float64],
    gains: Callable[[Ranks, int], Gains] = discounted_gains,
) -> Estimate:
    """The self-normalised inverse propensity estimate (Swaminathan & Joachims, 2015) of a metric at 20.

    `probability` [N] is that with which the candidate would have shown each slate that was shown. An event counts by
    that over the logged propensity; one about no item, or whose user had no slate, does not count. The estimate holds
    where every slate that the candidate might show had a chance to be shown.

    Raises `NoPropensities` where one is missing or is no probability above 0, `ValueError` where the candidate would
    have shown none of the slates.
    """
    counts = [one.release is not None and one.event.item_id is not None for one in feedback]
    answers = [one for one, counted in zip(feedback, counts, strict=True) if counted]
    weight = probability[counts] / _propensities(answers)
    if not weight.sum() > 0:
        raise ValueError(
            "the candidate would have shown none of the slates that were shown: nothing is known of its own"
        )
    ranks = np.array([NOT_ON_SLATE if one.rank is None else one.rank for one in answers], np.int32)
    mean = float(np.average(gains(ranks, K), weights=weight))
    return Estimate(mean=mean, effective_events=float(weight.sum() ** 2 / (weight**2).sum()))


def _propensities(answers: Sequence[Feedback]) -> NDArray[np.float64]:
    without = sum(one.propensity is None or not 0 < one.propensity <= 1 for one in answers)
    if without:
        raise NoPropensities(
            f"{without} of {len(answers)} slates have no `propensity` above 0 and up to 1. Nobody was shown the "
            "candidate's slates; unless it is known how likely those were that were shown, an estimate is of the old "
            "ranker's taste. Explore and log propensities, or compare by replay, as the gate does"
        )
    return np.array([one.propensity for one in answers], np.float64)
