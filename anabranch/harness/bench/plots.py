"""Growth curves: events a second at full speed and p99 at a steady rate, against what grows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Figures = Mapping[str, Any]
SIZE = (8.0, 2.8)
INK, FAINT = "#1f4e79", "#9aa5b1"


@dataclass(frozen=True)
class Point:
    """What was measured at one size."""

    size: int
    per_second: float
    per_second_sd: float
    p99_ms: float


@dataclass(frozen=True)
class Curve:
    """One growth curve."""

    name: str
    """Of the file, and of what grows."""
    load: str
    """At which p99 was measured."""
    points: Sequence[Point]


def curves(found: Mapping[str, Figures]) -> Iterator[Curve]:
    """Those whose figures are there, by the names of the benchmarks that made them."""
    if "items" in found:
        points = [_point(one["items"], one, one["calm_ms"]["p99"]["mean"]) for one in found["items"]["sizes"]]
        yield Curve("items", "at 1,000 events/s", points)
    if "users" in found:
        points = [_point(one["users"], one, one["steady_ms"]["p99"]) for one in found["users"]["users"]]
        yield Curve("users", f"at {found['users']['plan']['rate']:,.0f} events/s", points)
    latencies = [figures for name, figures in found.items() if name.startswith("latency")]
    by_partitions = [one for one in latencies if one["plan"]["rankers"] == 1]
    if len(by_partitions) > 1:
        yield Curve("partitions", HALF, [_of_latency(one["machine"]["partitions"], one) for one in by_partitions])
    usual = found["latency"]["machine"]["partitions"] if "latency" in found else 0
    by_rankers = {one["plan"]["rankers"]: one for one in latencies if one["machine"]["partitions"] == usual}
    if len(by_rankers) > 1:
        backlogs = [found[name] for name in ("throughput", "two-rankers") if name in found]
        speeds = {one["plan"]["rankers"]: one["events_per_second"] for one in backlogs}
        yield Curve("rankers", HALF, [_of_latency(n, one, speeds.get(n)) for n, one in by_rankers.items()])


HALF = "at half of that"


def _point(size: int, figures: Figures, p99_ms: float) -> Point:
    speed = figures["events_per_second"]
    return Point(size, speed["mean"], speed["sd"], p99_ms)


def _of_latency(size: int, figures: Figures, speed: Figures | None = None) -> Point:
    """By the speed over several backlogs, or else over the one from which the rate was taken."""
    mean, deviation = figures["events_per_second_at_full_speed"], 0.0
    if speed is not None:
        mean, deviation = speed["mean"], speed["sd"]
    return Point(size, mean, deviation, figures["ranker_ms"]["p99"]["mean"])


def draw(figures: Path, out: Path) -> Iterator[Path]:
    """Draw every curve whose figures are in the folder, as SVG; the files."""
    found = {path.stem: json.loads(path.read_bytes()) for path in sorted(figures.glob("*.json"))}
    out.mkdir(parents=True, exist_ok=True)
    for curve in curves(found):
        path = out / f"{curve.name}.svg"
        _draw(curve, path)
        yield path


def _draw(curve: Curve, path: Path) -> None:
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    points = sorted(curve.points, key=lambda one: one.size)
    sizes = [one.size for one in points]
    with rc_context({"svg.hashsalt": curve.name, "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}):
        figure = Figure(SIZE, layout="constrained")
        speed, latency = figure.subplots(1, 2)
        speed.errorbar(
            sizes,
            [one.per_second for one in points],
            [one.per_second_sd for one in points],
            color=INK,
            marker="o",
            capsize=3,
        )
        latency.plot(sizes, [one.p99_ms for one in points], color=INK, marker="o")
        for axes, title in ((speed, "events a second, at full speed"), (latency, f"p99 in ms, {curve.load}")):
            axes.set_xscale("log", base=2 if max(sizes) < 100 else 10)
            axes.set_xticks(sizes)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.0f}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            axes.set_ylim(bottom=0)
            axes.set_title(title, loc="left")
            axes.set_xlabel(curve.name)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", color=FAINT, alpha=0.3)
        figure.savefig(path, metadata={"Date": None})
