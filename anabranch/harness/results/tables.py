"""The tables of the results page: rows of text from the figures that `anabranch evaluate` wrote. Pure functions."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anabranch.harness.results.measurements import AMAZON, JOINTLY, MEASUREMENTS, TOGETHER, WAYS, ranks_file
from anabranch.harness.results.published import PublishedFigures
from models.metrics.bootstrap import Interval, paired_interval
from models.metrics.ranking import Gains, Ranks, discounted_gains, hits

Figures = dict[str, Any]
Row = Sequence[str]
WEEKLY_METRICS = ("recall", "mrr")
ABLATED = {
    "together_adapted",
    "beauty_ids_alone",
    "beauty_adapted",
    "beauty_distilled",
    "amazon_beauty",
    "diginetica",
    "diginetica_distilled",
    TOGETHER,
    JOINTLY,
}
"""Measurements in the table of strategies."""


def published_rows(
    figures: Sequence[Figures], published: Sequence[PublishedFigures], metrics: tuple[str, str], k: int
) -> Iterator[Row]:
    """Published figures, the served path's, those of its cold items, and those of each seed model alone.

    `figures` has one entry per random seed; k is the length of the slate that counts.
    """
    for paper in published:
        yield f"{paper.source} (published)", *(f"{value:.4f}" for value in paper.figures)
    yield _quality_row("**served**", [row["all"] for row in figures], metrics, k)
    if any("cold_items" in row["slices"] for row in figures):
        yield _quality_row("served, cold items", [row["slices"]["cold_items"] for row in figures], metrics, k)
    for name in figures[0]["seeds"] if figures else ():
        yield _quality_row(f"seed model {name} alone", [row["seeds"][name]["all"] for row in figures], metrics, k)


def cost_line(figures: Sequence[Figures]) -> str:
    """The number of events, and the cost to train the release."""
    cpu = format_spread([row["cost"]["cpu_seconds"] for row in figures], ".0f")
    peak = max(row["cost"]["peak_bytes"] for row in figures) / 2**30
    return (
        f"{figures[0]['all']['events']:,} events. Made in {cpu} s of CPU, one thread, {peak:.1f} GiB of memory at most."
    )


def together_rows(figures: Sequence[Figures]) -> Iterator[Row]:
    """One release for three domains, against the best seed model alone, by slice."""
    for name in _slices():
        seed_models = figures[0]["seeds"]
        best = max(seed_models, key=lambda seed_model: _slice(seed_models[seed_model], name)["ndcg"]["10"])
        served = [_quality(_slice(row, name), ("recall", "ndcg"), 10) for row in figures]
        best_ndcg = [_slice(row["seeds"][best], name)["ndcg"]["10"] for row in figures]
        leads = [Interval(**row["seeds"][best]["lead"][name]["ndcg_at_10"]) for row in figures]
        columns = (format_spread(column) for column in zip(*served, strict=True))
        yield name, *columns, best, format_spread(best_ndcg), _format_intervals(leads)


def jointly_rows(figures: Mapping[str, Sequence[Figures]], results: Path, random_seeds: int) -> Iterator[Row]:
    """The same release, against one trained on all domains with no strategy that shares, by slice; paired by event."""
    pairs = [
        (results / ranks_file(TOGETHER, random_seed), results / ranks_file(JOINTLY, random_seed))
        for random_seed in range(random_seeds)
    ]
    pairs = [pair for pair in pairs if all(path.exists() for path in pair)]
    for name in _slices():
        joint_ndcg = [_slice(row, name)["ndcg"]["10"] for row in figures[JOINTLY]]
        if pairs and joint_ndcg:
            ndcg = [_paired_interval(ours, theirs, name, discounted_gains) for ours, theirs in pairs]
            recall = [_paired_interval(ours, theirs, name, hits) for ours, theirs in pairs]
            yield name, format_spread(joint_ndcg), _format_intervals(ndcg), _format_intervals(recall)


def weekly_rows(figures: Mapping[str, Sequence[Figures]]) -> Iterator[Row]:
    """Quality and cost of each way to learn a new week, as means over the weeks."""
    for way, runs in _ways(figures).items():
        if not runs:
            yield way, "not measured", "", "", ""
            continue
        recall, mrr = ([statistics.mean(_by_period(run, metric)) for run in runs] for metric in WEEKLY_METRICS)
        costs = [[cost["cpu_seconds"] for cost in run["cost"]] for run in runs]
        cpu = format_spread([statistics.mean(of_run) for of_run in costs], ".0f")
        yield way, format_spread(recall), format_spread(mrr), cpu, f"{max(map(max, costs)):.0f}"


def weekly_lead_rows(figures: Mapping[str, Sequence[Figures]]) -> Iterator[Row]:
    """The lead of sharing over each other way: its mean, and in how many weeks it is positive."""
    ways = _ways(figures)
    for way in ("retrained", "fine_tuned", "co_visit"):
        leads = [_weekly_leads(ways["shared"], ways[way], metric) for metric in WEEKLY_METRICS]
        if leads[0]:
            cells = [
                cell
                for lead in leads
                for cell in (f"{statistics.mean(lead):+.4f}", f"{sum(x > 0 for x in lead)} of {len(lead)}")
            ]
            yield f"shared - {way}", *cells


def strategy_rows(figures: Mapping[str, Sequence[Figures]]) -> Iterator[Row]:
    """Quality by sharing strategy, with the first random seed."""
    for measurement in MEASUREMENTS:
        if measurement.name in ABLATED and figures[measurement.name]:
            row = figures[measurement.name][0]
            cold = row["slices"].get("cold_items")
            cold_ndcg = f"{cold['ndcg']['10']:.4f}" if cold else "none"
            quality = (f"{value:.4f}" for value in _quality(row["all"], ("recall", "ndcg"), 10))
            yield ", ".join(measurement.folders), row["strategy"]["name"], *quality, cold_ndcg


def format_spread(values: Sequence[float], form: str = ".4f") -> str:
    """Mean and sample standard deviation over the random seeds."""
    spread = f" ± {statistics.stdev(values):{form}}" if len(values) > 1 else " (one seed)"
    return f"{statistics.mean(values):{form}}{spread}"


def _quality_row(name: str, qualities: Sequence[Figures], metrics: Sequence[str], k: int) -> Row:
    if not qualities:
        return name, "not measured", ""
    values = [_quality(quality, metrics, k) for quality in qualities]
    return name, *(format_spread(column) for column in zip(*values, strict=True))


def _quality(quality: Figures, metrics: Sequence[str], k: int) -> list[float]:
    return [quality[metric][str(k)] for metric in metrics]


def _slices() -> list[str]:
    return ["all", *(f"domain:{name}" for name in AMAZON), "cold_items"]


def _slice(figures: Figures, name: str) -> Figures:
    quality: Figures = figures["all"] if name == "all" else figures["slices"][name]
    return quality


def _paired_interval(ours: Path, theirs: Path, name: str, gains: Callable[[Ranks, int], Gains]) -> Interval:
    """The interval of the mean difference of gains@10 in a slice, paired by event and resampled by user."""
    our_ranks, their_ranks = np.load(ours), np.load(theirs)
    if not np.array_equal(our_ranks["row"], their_ranks["row"]):
        raise ValueError(f"{ours} and {theirs} have different events: remove both and measure again")
    masks = dict(zip(our_ranks["slices"].tolist(), our_ranks["masks"], strict=True))
    mask = masks.get(name, np.ones(len(our_ranks["row"]), np.bool_))
    our_gains, their_gains = gains(our_ranks["rank"][mask], 10), gains(their_ranks["rank"][mask], 10)
    return paired_interval(our_gains, their_gains, our_ranks["user"][mask])


def _format_intervals(intervals: Sequence[Interval]) -> str:
    return "; ".join(
        f"{interval.difference:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]" for interval in intervals
    )


def _ways(figures: Mapping[str, Sequence[Figures]]) -> dict[str, list[Figures]]:
    return {way: [row["ways"][way] for row in figures[f"weekly_{way}"]] for way in WAYS}


def _weekly_leads(ours: Sequence[Figures], theirs: Sequence[Figures], metric: str) -> list[float]:
    """Differences by week, for the random seeds with which both were measured."""
    pairs = [(_by_period(our, metric), _by_period(their, metric)) for our, their in zip(ours, theirs, strict=False)]
    return [our - their for pair in pairs for our, their in zip(*pair, strict=True)]


def _by_period(run: Figures, metric: str) -> list[float]:
    """A metric@20 of every week."""
    return [period["all"][metric]["20"] for period in run["periods"]]
