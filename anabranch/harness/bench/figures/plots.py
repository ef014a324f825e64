"""Growth curves: events per second at full load, and p99 at a steady rate, by items, users, partitions or rankers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from anabranch.errors import UsageError

Figures = Mapping[str, Any]
SIZE_INCHES = (8.0, 2.8)
LINE_COLOUR, GRID_COLOUR = "#1f4e79", "#9aa5b1"
HALF_LOAD = "at half of that"


@dataclass(frozen=True)
class Point:
    """The figures at one size."""

    size: int
    per_second: float
    per_second_sd: float
    p99_ms: float


@dataclass(frozen=True)
class Curve:
    """One growth curve."""

    name: str
    """Of the file, and of the quantity on the x-axis."""
    load: str
    """The load under which p99 was measured."""
    points: Sequence[Point]


def curves(figures: Mapping[str, Figures]) -> Iterator[Curve]:
    """The curves whose figures are there, by the name of their benchmark."""
    if "items" in figures:
        points = [_point(size["items"], size, size["calm_ms"]["p99"]["mean"]) for size in figures["items"]["sizes"]]
        yield Curve("items", "at 1,000 events/s", points)
    if "users" in figures:
        points = [_point(size["users"], size, size["steady_ms"]["p99"]) for size in figures["users"]["users"]]
        yield Curve("users", f"at {figures['users']['plan']['rate']:,.0f} events/s", points)
    latencies = [latency for name, latency in figures.items() if name.startswith("latency")]
    one_ranker = [latency for latency in latencies if latency["plan"]["rankers"] == 1]
    if len(one_ranker) > 1:
        points = [_latency_point(latency["machine"]["partitions"], latency) for latency in one_ranker]
        yield Curve("partitions", HALF_LOAD, points)
    usual = figures["latency"]["machine"]["partitions"] if "latency" in figures else 0
    by_rankers = {
        latency["plan"]["rankers"]: latency for latency in latencies if latency["machine"]["partitions"] == usual
    }
    if len(by_rankers) > 1:
        backlogs = [figures[name] for name in ("throughput", "two-rankers") if name in figures]
        rates = {backlog["plan"]["rankers"]: backlog["events_per_second"] for backlog in backlogs}
        points = [_latency_point(count, latency, rates.get(count)) for count, latency in by_rankers.items()]
        yield Curve("rankers", HALF_LOAD, points)


def _point(size: int, figures: Figures, p99_ms: float) -> Point:
    rate = figures["events_per_second"]
    return Point(size, rate["mean"], rate["sd"], p99_ms)


def _latency_point(size: int, figures: Figures, rate: Figures | None = None) -> Point:
    """`rate` is that of several backlogs; without it, that of the one backlog of the latency benchmark counts."""
    mean, deviation = figures["events_per_second_at_full_speed"], 0.0
    if rate is not None:
        mean, deviation = rate["mean"], rate["sd"]
    return Point(size, mean, deviation, figures["ranker_ms"]["p99"]["mean"])


def draw(figures: Path, out: Path) -> Iterator[Path]:
    """Draw every curve whose figures are in the folder, as SVG. Yields the paths of the files.

    Raises `UsageError` if matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise UsageError("plots are drawn by matplotlib, which is not installed: pip install 'anabranch[dev]'")
    by_name = {path.stem: json.loads(path.read_bytes()) for path in sorted(figures.glob("*.json"))}
    out.mkdir(parents=True, exist_ok=True)
    for curve in curves(by_name):
        path = out / f"{curve.name}.svg"
        _draw(curve, path)
        yield path


def _draw(curve: Curve, path: Path) -> None:
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    points = sorted(curve.points, key=lambda point: point.size)
    sizes = [point.size for point in points]
    with rc_context({"svg.hashsalt": curve.name, "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}):
        figure = Figure(SIZE_INCHES, layout="constrained")
        rate_axes, latency_axes = figure.subplots(1, 2)
        rate_axes.errorbar(
            sizes,
            [point.per_second for point in points],
            [point.per_second_sd for point in points],
            color=LINE_COLOUR,
            marker="o",
            capsize=3,
        )
        latency_axes.plot(sizes, [point.p99_ms for point in points], color=LINE_COLOUR, marker="o")
        titles = ((rate_axes, "events/s at full load"), (latency_axes, f"p99 in ms, {curve.load}"))
        for axes, title in titles:
            axes.set_xscale("log", base=2 if max(sizes) < 100 else 10)
            axes.set_xticks(sizes)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.0f}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            axes.set_ylim(bottom=0)
            axes.set_title(title, loc="left")
            axes.set_xlabel(curve.name)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", color=GRID_COLOUR, alpha=0.3)
        figure.savefig(path, metadata={"Date": None})
