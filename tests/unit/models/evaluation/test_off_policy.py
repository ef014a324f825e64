from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from anabranch.messages import Event, Feedback
from models.evaluation.off_policy import NoPropensities, off_policy
from models.metrics.ranking import hits


def answer(
    rank: int | None, propensity: float | None, release: str | None = "r1", item_id: str | None = "i"
) -> Feedback:
    event = Event(event_id="e", user_id="u", type="purchase" if item_id else "search", ts=1, item_id=item_id, query="q")
    return Feedback(event=event, partition=0, offset=0, release=release, rank=rank, propensity=propensity)


def of(answers: Sequence[Feedback], *probability: float) -> float:
    return off_policy(answers, np.array(probability), hits).mean


def test_slates_that_the_candidate_shows_more_often_have_more_weight() -> None:
    """Weights 2 and 0.5: a hit and a miss."""
    assert of([answer(1, 0.4), answer(None, 0.6)], 0.8, 0.3) == pytest.approx(2 / 2.5)


def test_a_candidate_with_the_logged_slates_gets_the_logged_metric() -> None:
    answers = [answer(1, 0.2), answer(None, 0.9), answer(3, 0.5), answer(None, 0.1)]
    estimate = off_policy(answers, np.array([0.2, 0.9, 0.5, 0.1]))
    assert estimate.mean == pytest.approx((1 + 1 / np.log2(4)) / 4)
    assert estimate.effective_events == pytest.approx(4)


def test_rare_agreement_leaves_few_effective_events() -> None:
    estimate = off_policy([answer(1, 0.5)] * 100, np.array([1.0] + [0.01] * 99))
    assert 1 < estimate.effective_events < 5


def test_the_estimate_is_close_to_the_candidates_metric_and_the_logged_mean_is_not() -> None:
    """The old ranker shows the good slate one time in ten, the candidate nine times in ten."""
    random = np.random.default_rng(0)
    good = random.random(20_000) < 0.1
    hit = random.random(20_000) < np.where(good, 0.6, 0.2)
    answers = [answer(1 if h else None, 0.1 if g else 0.9) for g, h in zip(good.tolist(), hit.tolist(), strict=True)]
    estimate = off_policy(answers, np.where(good, 0.9, 0.1), hits)
    assert hit.mean() == pytest.approx(0.24, abs=0.01)
    assert estimate.mean == pytest.approx(0.9 * 0.6 + 0.1 * 0.2, abs=0.02)


@pytest.mark.parametrize("propensity", [None, 0.0, -0.1, 1.5, float("nan")])
def test_one_slate_without_a_propensity_is_refused_and_the_reason_given(propensity: float | None) -> None:
    with pytest.raises(NoPropensities, match=r"1 of 2 slates .* an estimate would measure the old ranker's choices"):
        of([answer(1, 0.5), answer(1, propensity)], 0.5, 0.5)


def test_users_without_a_slate_and_events_without_an_item_do_not_count() -> None:
    answers = [answer(1, 0.5), answer(None, None, release=None), answer(None, None, item_id=None)]
    assert of(answers, 0.5, 0.5, 0.5) == 1


def test_a_candidate_that_would_have_shown_no_logged_slate_is_refused() -> None:
    with pytest.raises(ValueError, match="shown none"):
        of([answer(1, 0.5)], 0.0)
    with pytest.raises(ValueError, match="shown none"):
        of([])
