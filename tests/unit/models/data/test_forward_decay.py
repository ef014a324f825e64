from __future__ import annotations

import numpy as np
import pytest

from anabranch.co_visit_rule import CoVisitRule
from anabranch.forward_decay import MAX_EXPONENT, ForwardDecay
from models.co_visit.model import CoVisitModel
from models.co_visit.text_neighbours import text_prior
from models.data.event_log import EventColumns, EventLog
from models.evaluation.baselines import Baseline, PersonalFrequency, Popularity

YEAR_MS = 365 * 24 * 3600 * 1000


def test_a_weight_doubles_with_every_half_life() -> None:
    decay = ForwardDecay(1000, lambda factor: None)
    assert [decay.weight(ts) for ts in (5000, 6000, 8000)] == [1, 2, 8]


def test_sums_are_rescaled_before_weights_become_too_large() -> None:
    factors = []
    decay = ForwardDecay(1, factors.append)
    assert decay.weight(0) == 1
    assert decay.weight(int(MAX_EXPONENT)) == 2.0**MAX_EXPONENT
    assert factors == []
    assert decay.weight(int(MAX_EXPONENT) + 1) == 1
    assert factors == [2.0 ** -(MAX_EXPONENT + 1)]
    assert decay.weight(10**15) == 1
    assert factors[1] == 0, "earlier events count nothing any more"


@pytest.mark.parametrize("baseline", [Popularity(), Popularity(cached=1), PersonalFrequency()])
def test_a_baseline_learns_from_events_of_many_centuries_and_prefers_the_newest(baseline: Baseline) -> None:
    for year in range(0, 600, 10):
        for item in (0, 1, 0) if year < 500 else (2, 3, 2, 3):
            baseline.learn(0, item, year * YEAR_MS)
    baseline.learn(0, 0, 590 * YEAR_MS)
    assert set(baseline.scored(0).top(2)) == {2, 3}, "what item 0 had centuries ago counts nothing"


def test_a_co_visit_table_of_many_centuries_is_that_of_the_newest_events() -> None:
    """Items 0 and 1 are visited in the first centuries, 0 and 2 in the last ones."""
    years = np.repeat(np.arange(0, 7901, 50), 6)
    ones = np.ones(len(years), np.int64)
    items = np.where(np.arange(len(years)) % 2, np.where(years < 4000, 1, 2), 0)
    log = EventLog.from_columns(
        EventColumns(ones * 0, items, ones, years * YEAR_MS, ones), user_ids=("u",), item_ids=tuple("abcdef")
    )
    texts = np.repeat(np.eye(2, 4), 3, axis=0) + np.random.default_rng(0).normal(scale=0.01, size=(6, 4))
    rule, neighbours = CoVisitRule(text_prior=5.0, window=3), text_prior(texts.astype(np.float32))
    whole = CoVisitModel(rule, texts=neighbours).fit(log).table(3)
    newest = CoVisitModel(rule, texts=neighbours).fit(log.split(7850 * YEAR_MS)[1]).table(3)
    of_both = [0, 2]  # rows of the items of the newest events
    assert whole.popularity == pytest.approx([*newest.popularity[:1], 0, *newest.popularity[1:]], abs=1e-6)
    assert (whole.neighbours[of_both] == newest.neighbours).all()
    np.testing.assert_allclose(whole.share[of_both], newest.share, rtol=1e-5)
