from __future__ import annotations

import numpy as np

from anabranch.placements import AGAIN, DISCOVER, Placement
from models.evaluation.summaries import quality_by_placement


def test_each_placement_is_measured_on_the_events_that_it_is_for() -> None:
    ranks = np.array([[1, 0, 0], [0, 2, 0], [0, 0, 3]], np.int32)
    repeat = np.array([True, False, False])
    quality = quality_by_placement(ranks, (AGAIN, DISCOVER, Placement(name="more")), repeat)
    assert {name: of.events for name, of in quality.items()} == {"again": 1, "discover": 2, "more": 3}
    assert {name: of.mrr[20] for name, of in quality.items()} == {"again": 1.0, "discover": 1 / 4, "more": 1 / 9}
