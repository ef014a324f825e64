"""Tables of the ways to learn a new week.

A week is one draw: its figures with several random seeds are averaged first, and intervals are over the weeks.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from anabranch.harness.results.cells import NOT_MEASURED, Figures, Row, format_spread
from anabranch.harness.results.measurements import WAYS
from anabranch.harness.results.paired_ranks import Metrics, format_interval
from models.metrics.bootstrap import Interval

METRICS = ("recall", "mrr")
"""At 20."""
CONFIDENCE = 0.95
Weeks = NDArray[np.float64]


def weekly_rows(figures: Mapping[str, Sequence[Figures]]) -> Iterator[Row]:
    """Quality and cost of each way, as means over the weeks; ± is over random seeds."""
    for way, runs in _ways(figures).items():
        if not runs:
            yield way, NOT_MEASURED, "", "", ""
            continue
        recall, mrr = ([float(_by_week(run, metric).mean()) for run in runs] for metric in METRICS)
        costs = [[cost["cpu_seconds"] for cost in run["cost"]] for run in runs]
        cpu = format_spread([statistics.mean(of_run) for of_run in costs], ".0f")
        yield way, format_spread(recall), format_spread(mrr), cpu, f"{max(map(max, costs)):.0f}"


def weekly_lead_rows(figures: Mapping[str, Sequence[Figures]]) -> Iterator[Row]:
    """The lead of sharing over each other way: its mean with an interval, and in how many weeks it is positive."""
    ways = _ways(figures)
    for way in ("retrained", "fine_tuned", "co_visit"):
        if ways["shared"] and ways[way]:
            cells: list[str] = []
            for metric in METRICS:
                lead = _mean_by_week(ways["shared"], metric) - _mean_by_week(ways[way], metric)
                cells += [format_interval(interval_over_weeks(lead)), f"{int((lead > 0).sum())} of {len(lead)}"]
            yield f"shared - {way}", *cells


def stale_rows(runs: Sequence[Figures], metrics: Metrics) -> Iterator[Row]:
    """What a re-share adds to the release that was so many weeks old, over the weeks that have one so old."""
    shared = [run["ways"]["shared"] for run in runs]
    ages = {age for run in shared for period in run["periods"] for age in period.get("stale", ())}
    for age in sorted(ages, key=int):
        with_age = [{"periods": [row for row in run["periods"] if age in row["stale"]]} for run in shared]
        stale = [{"periods": [row["stale"][age] for row in run["periods"]]} for run in with_age]
        cells: list[str] = []
        for metric in metrics.names:
            gain = _mean_by_week(with_age, metric) - _mean_by_week(stale, metric)
            cells += [f"{_mean_by_week(stale, metric).mean():.4f}", format_interval(interval_over_weeks(gain))]
        yield age, str(len(with_age[0]["periods"])), *cells


def interval_over_weeks(lead: Weeks) -> Interval:
    """Mean of the leads [W] of W weeks with Student's 95 % interval; of a single week there is no interval."""
    mean = float(lead.mean())
    if len(lead) < 2:
        return Interval(difference=mean, low=-math.inf, high=math.inf)
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(lead) - 1))
    reach = quantile * float(lead.std(ddof=1)) / math.sqrt(len(lead))
    return Interval(difference=mean, low=mean - reach, high=mean + reach)


def _ways(figures: Mapping[str, Sequence[Figures]]) -> dict[str, list[Figures]]:
    return {way: [row["ways"][way] for row in figures[f"weekly_{way}"]] for way in WAYS}


def _mean_by_week(runs: Sequence[Figures], metric: str) -> Weeks:
    """A metric@20 of every week [W], as its mean over the random seeds."""
    mean: Weeks = np.mean([_by_week(run, metric) for run in runs], axis=0)
    return mean


def _by_week(run: Figures, metric: str) -> Weeks:
    """A metric@20 of every week [W]."""
    return np.array([period["all"][metric]["20"] for period in run["periods"]])
