from __future__ import annotations

import numpy as np
import pytest

from models.co_visit.model import CoVisitModel
from models.data.event_log import EventColumns, EventLog
from models.data.forward_decay import MAX_EXPONENT, ForwardDecay
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


@pytest.mark.parametrize("baseline", [Popularity(), PersonalFrequency(), CoVisitModel()], ids=lambda model: model.name)
def test_a_baseline_learns_from_events_of_many_decades_and_prefers_the_newest(baseline: Baseline) -> None:
    for year in range(60):
        for item in (0, 1, 0) if year < 30 else (2, 3, 2):
            baseline.learn(0, item, year * YEAR_MS)
    assert set(baseline.slate(0, 2)) == {2, 3}


def test_a_co_visit_table_of_many_decades_is_that_of_the_newest_events() -> None:
    years = np.repeat(np.arange(0, 8000, 100), 6)  # up to the largest time that an event may have
    ones = np.zeros(len(years), np.int64)
    items = np.tile([0, 1, 0, 1, 0, 1], len(years) // 6)
    log = EventLog.from_columns(
        EventColumns(ones, items, ones, years * YEAR_MS, ones - 1), user_ids=("u",), item_ids=("a", "b")
    )
    table = CoVisitModel.fit(log).table()
    assert np.isfinite(table.share).all()
    assert table.popularity == pytest.approx([0.5, 0.5], abs=1e-6)
