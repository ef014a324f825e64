"""Figures of benchmarks, and the states they make up."""

from __future__ import annotations

import numpy as np

from anabranch.cli.bench.exactly_once import _speed
from anabranch.cli.bench.stand import percentiles, spread
from anabranch.cli.ledger import Answer
from anabranch.messages import Cause, Ranking


def test_a_figure_comes_with_its_spread() -> None:
    assert spread([1.0, 2.0, 3.0]) == {"mean": 2.0, "sd": 1.0, "min": 1.0, "max": 3.0}
    assert spread([4.0])["sd"] == 0


def test_percentiles_are_those_of_numpy_and_the_largest() -> None:
    values = [float(value) for value in range(1, 101)]
    assert percentiles(values) == {"p50": 50.5, "p95": np.percentile(values, 95), "p99": np.percentile(values, 99)} | {
        "max": 100.0
    }


def test_speed_counts_from_the_first_ranking_on() -> None:
    cause = Cause(event_id="e", partition=0, offset=0, ts=0)
    answers = [
        Answer(Ranking(user_id="u", release="r", cause=cause, slate=[], ts=0), appended)
        for appended in range(5_000, 6_000, 10)
    ]
    assert round(_speed(answers)) == 101
