"""models/RESULTS.md, from the measurements that are there."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anabranch.harness.results.cells import AMAZON, CELLS, JOINTLY, TOGETHER, WAYS, file_of, ranks_of
from models.metrics.bootstrap import Interval, paired_interval
from models.metrics.ranking import Gains, Ranks, discounted_gains, hits

Found = dict[str, Any]
METRIC_NAMES = {"recall": "R", "ndcg": "N", "mrr": "MRR"}


@dataclass(frozen=True)
class Published:
    """What others report on the same data, split and full ranking."""

    source: str
    figures: tuple[float, float]


SESSIONS = (
    Published("SR-GNN", (0.5073, 0.1759)),
    Published("GCE-GNN", (0.5422, 0.1904)),
    Published("Mssen", (0.5517, 0.1964)),
)
LEFT_OUT = {
    "video": (Published("SASRec", (0.10910, 0.05829)), Published("LRURec", (0.11337, 0.06198))),
    "amazon_beauty": (
        Published("TIGER", (0.0648, 0.0384)),
        Published("HSTU", (0.0788, 0.0439)),
        Published("SASRec, sampled softmax", (0.0921, 0.0531)),
    ),
    "amazon_toys": (
        Published("TIGER", (0.0712, 0.0432)),
        Published("HSTU", (0.0778, 0.0450)),
        Published("SASRec, sampled softmax", (0.0970, 0.0580)),
    ),
}


def render(kept: Path, seeds: int) -> str:
    """The whole page. What was not measured says so."""
    found = {cell.name: _read(kept, cell.name, seeds) for cell in CELLS}
    sections = [
        _INTRODUCTION,
        *_against_published("Diginetica, sessions", found["diginetica"], SESSIONS, ("recall", "mrr"), 20),
        *_seeds_alone(found["diginetica"], ("recall", "mrr"), 20),
        *_cost(found["diginetica"]),
    ]
    for name, published in LEFT_OUT.items():
        sections += _against_published(f"{name}, leave one out", found[name], published, ("recall", "ndcg"), 10)
        sections += _cost(found[name])
    sections += _together(found, kept, seeds)
    sections += _weekly(found)
    sections += _strategies(found)
    return "\n".join(sections) + "\n"


_INTRODUCTION = """# Results

Written by `make results`. Every figure comes from the served path: a release made of what comes before the test, its
ONNX step, FAISS index, neighbours and order, driven by the ranker's own core (`anabranch evaluate`).
All items are ranked. What was chosen was chosen on validation splits.
A figure is the mean of the training seeds, ± their standard deviation.
Published figures are their authors', on the same split."""


def _read(kept: Path, name: str, seeds: int) -> list[Found]:
    paths = [kept / file_of(name, seed) for seed in range(seeds)]
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def _against_published(
    title: str, found: Sequence[Found], published: Sequence[Published], metrics: tuple[str, str], k: int
) -> Iterator[str]:
    labels = [f"{METRIC_NAMES[metric]}@{k}" for metric in metrics]
    yield f"\n## {title}\n\n| | {' | '.join(labels)} |\n|---|---|---|"
    for one in published:
        yield f"| {one.source} (published) | {one.figures[0]:.4f} | {one.figures[1]:.4f} |"
    yield _row("**served**", [_quality(one["all"], metrics, k) for one in found])
    if any("cold_items" in one["slices"] for one in found):
        yield _row("served, cold items", [_quality(one["slices"]["cold_items"], metrics, k) for one in found])


def _seeds_alone(found: Sequence[Found], metrics: tuple[str, str], k: int) -> Iterator[str]:
    for name in found[0]["seeds"] if found else ():
        yield _row(f"seed {name} alone", [_quality(one["seeds"][name]["all"], metrics, k) for one in found])


def _quality(quality: Found, metrics: Sequence[str], k: int) -> list[float]:
    return [quality[metric][str(k)] for metric in metrics]


def _row(name: str, values: Sequence[Sequence[float]]) -> str:
    if not values:
        return f"| {name} | not measured | |"
    return f"| {name} | {' | '.join(_spread(column) for column in zip(*values, strict=True))} |"


def _spread(values: Sequence[float], form: str = ".4f") -> str:
    spread = f" ± {statistics.stdev(values):{form}}" if len(values) > 1 else " (one seed)"
    return f"{statistics.mean(values):{form}}{spread}"


def _cost(found: Sequence[Found]) -> Iterator[str]:
    if found:
        cpu = _spread([one["cost"]["cpu_seconds"] for one in found], ".0f")
        peak = max(one["cost"]["peak_bytes"] for one in found) / 2**30
        events = found[0]["all"]["events"]
        yield f"\n{events:,} events. Made in {cpu} s of CPU, one thread, {peak:.1f} GiB of memory at most.\n"


def _together(found: dict[str, list[Found]], kept: Path, seeds: int) -> Iterator[str]:
    """Three domains in one encoder: against every seed, and against training on all without teachers."""
    yield "\n## Beauty, Toys and Pantry in one release, leave one out\n"
    shared = found[TOGETHER]
    if not shared:
        yield "Not measured."
        return
    yield "| domain | served R@10 | served N@10 | best seed alone | its N@10 | served - best seed, N@10 |"
    yield "|---|---|---|---|---|---|"
    for name in _slices(shared[0]):
        best = max(shared[0]["seeds"], key=lambda seed: _of(shared[0]["seeds"][seed], name)["ndcg"]["10"])
        served = [_quality(_of(one, name), ("recall", "ndcg"), 10) for one in shared]
        theirs = [_of(one["seeds"][best], name)["ndcg"]["10"] for one in shared]
        leads = [one["seeds"][best]["lead"]["all" if name == "all" else name]["ndcg_at_10"] for one in shared]
        ours = " | ".join(_spread(column) for column in zip(*served, strict=True))
        yield f"| {name} | {ours} | {best} | {_spread(theirs)} | {_intervals([Interval(**lead) for lead in leads])} |"
    yield "\nThe interval of each training seed's difference, paired and over users, 95 %.\n"
    yield "| domain | jointly N@10 | served - jointly, N@10 | served - jointly, R@10 |\n|---|---|---|---|"
    pairs = [(kept / ranks_of(TOGETHER, seed), kept / ranks_of(JOINTLY, seed)) for seed in range(seeds)]
    pairs = [pair for pair in pairs if all(path.exists() for path in pair)]
    for name in _slices(shared[0]):
        joint = [_of(one, name)["ndcg"]["10"] for one in found[JOINTLY]]
        if pairs and joint:
            gained = [_paired(ours, theirs, name, discounted_gains) for ours, theirs in pairs]
            recalled = [_paired(ours, theirs, name, hits) for ours, theirs in pairs]
            yield f"| {name} | {_spread(joint)} | {_intervals(gained)} | {_intervals(recalled)} |"


def _slices(one: Found) -> list[str]:
    return ["all", *(f"domain:{name}" for name in AMAZON), "cold_items"]


def _of(one: Found, name: str) -> Found:
    found: Found = one["all"] if name == "all" else one["slices"][name]
    return found


def _paired(ours: Path, theirs: Path, name: str, gains: Callable[[Ranks, int], Gains]) -> Interval:
    one, other = np.load(ours), np.load(theirs)
    if not np.array_equal(one["row"], other["row"]):
        raise ValueError(f"{ours} and {theirs} are of different events: remove both and measure again")
    slices = dict(zip(one["slices"].tolist(), one["masks"], strict=True))
    where = slices.get(name, np.ones(len(one["row"]), np.bool_))
    return paired_interval(gains(one["rank"][where], 10), gains(other["rank"][where], 10), one["user"][where])


def _intervals(intervals: Sequence[Interval]) -> str:
    return "; ".join(f"{one.difference:+.4f} [{one.low:+.4f}, {one.high:+.4f}]" for one in intervals)


def _weekly(found: Mapping[str, Sequence[Found]]) -> Iterator[str]:
    yield "\n## Diginetica, week by week\n"
    yield "Each period is predicted by what was learned of those before it; means over the periods.\n"
    yield "| way | R@20 | MRR@20 | CPU s a period | most CPU s |\n|---|---|---|---|---|"
    ways = {way: [one["ways"][way] for one in found[f"weekly_{way}"]] for way in WAYS}
    for way, runs in ways.items():
        if not runs:
            yield f"| {way} | not measured | | | |"
            continue
        recall, mrr = (
            [statistics.mean(each) for each in (_by_period(run, metric) for run in runs)] for metric in WEEKLY_METRICS
        )
        costs = [[cost["cpu_seconds"] for cost in run["cost"]] for run in runs]
        cpu = _spread([statistics.mean(each) for each in costs], ".0f")
        yield f"| {way} | {_spread(recall)} | {_spread(mrr)} | {cpu} | {max(map(max, costs)):.0f} |"
    yield "\n| | R@20 | periods above | MRR@20 | periods above |\n|---|---|---|---|---|"
    for way in ("retrained", "fine_tuned", "co_visit"):
        leads = [_leads(ways["shared"], ways[way], metric) for metric in WEEKLY_METRICS]
        if leads[0]:
            told = " | ".join(
                f"{statistics.mean(lead):+.4f} | {sum(one > 0 for one in lead)} of {len(lead)}" for lead in leads
            )
            yield f"| shared - {way} | {told} |"


WEEKLY_METRICS = ("recall", "mrr")


def _leads(ours: Sequence[Found], theirs: Sequence[Found], metric: str) -> list[float]:
    """Period by period, seed by seed as far as both have been measured."""
    pairs = [(_by_period(one, metric), _by_period(other, metric)) for one, other in zip(ours, theirs, strict=False)]
    return [x - y for pair in pairs for x, y in zip(*pair, strict=True)]


def _by_period(run: Found, metric: str) -> list[float]:
    """A metric at 20 of every period."""
    return [period["all"][metric]["20"] for period in run["periods"]]


def _strategies(found: dict[str, list[Found]]) -> Iterator[str]:
    yield "\n## What each strategy adds\n"
    yield "| data | strategies | R@10 | N@10 | cold items, N@10 |\n|---|---|---|---|---|"
    for cell in CELLS:
        for one in found[cell.name][:1]:
            if cell.name in ABLATED:
                cold = one["slices"].get("cold_items")
                told = f"{cold['ndcg']['10']:.4f}" if cold else "none"
                figures = " | ".join(f"{value:.4f}" for value in _quality(one["all"], ("recall", "ndcg"), 10))
                yield f"| {', '.join(cell.folders)} | {one['strategy']['name']} | {figures} | {told} |"


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
