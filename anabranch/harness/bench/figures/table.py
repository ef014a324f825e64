"""`anabranch bench all`: every benchmark of the ranker, and one table of figures, baselines and targets."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from anabranch.errors import UsageError

Figures = dict[str, Any]


@dataclass(frozen=True)
class BenchCall:
    """One call of `anabranch bench`; its figures are kept in a file of its name."""

    arguments: tuple[str, ...]
    small: tuple[str, ...] = ()
    """Options that make it quick: a check that it runs, not a measurement."""
    global_options: tuple[str, ...] = ()
    in_table: bool = True
    """False: for the growth curves alone."""


_SMALL = ("--households", "12", "--items", "100")
_SMALL_THROUGHPUT = (*_SMALL, "--events", "200", "--noop-batch", "512")
_SMALL_LATENCY = (*_SMALL, "--rate", "50", "--seconds", "1")
BENCHMARKS: Mapping[str, BenchCall] = {
    "throughput": BenchCall(("throughput",), _SMALL_THROUGHPUT),
    "two-rankers": BenchCall(("throughput", "--rankers", "2"), _SMALL_THROUGHPUT),
    "latency": BenchCall(("latency",), _SMALL_LATENCY),
    "items": BenchCall(
        ("items",),
        (
            *("--households", "30", "--size", "1000", "--size", "2000"),
            *("--events", "200", "--rate", "50", "--calm-seconds", "1", "--rebuild-seconds", "1"),
        ),
    ),
    "users": BenchCall(
        ("users",),
        ("--households", "30", "--users", "200", "--events", "200", "--rate", "50", "--seconds", "1"),
    ),
    "swap": BenchCall(("swap",), (*_SMALL, "--rate", "50", "--calm-seconds", "1")),
    "idle": BenchCall(("idle",), (*_SMALL, "--seconds", "2")),
    "serve": BenchCall(("serve",), (*_SMALL, "--rate", "20", "--event-rate", "20", "--seconds", "1")),
    "latency-two-rankers": BenchCall(("latency", "--rankers", "2"), _SMALL_LATENCY, in_table=False),
    "latency-1-partition": BenchCall(("latency",), _SMALL_LATENCY, ("--set", "partitions=1"), in_table=False),
    "latency-16-partitions": BenchCall(("latency",), _SMALL_LATENCY, ("--set", "partitions=16"), in_table=False),
}
"""By the name of the file that keeps the figures."""


@dataclass(frozen=True)
class BenchAllConfig:
    """Which benchmarks run, and how large they are."""

    data_dir: Path
    releases: Path | None
    """A folder with a release to serve; None: the first benchmark trains one for all."""
    repeats: int
    small: bool = False
    only: Sequence[str] = field(default_factory=tuple)
    """Names of benchmarks; empty: all."""


@dataclass(frozen=True)
class Row:
    """A figure with its baseline from the same run, and the target."""

    name: str
    figure: float
    spread: float
    unit: str
    target: float
    at_most: bool = False
    """Whether the target is an upper bound."""
    baseline: str = ""

    @property
    def met(self) -> bool:
        """Whether the figure meets the target."""
        return self.figure <= self.target if self.at_most else self.figure >= self.target


def measure(config: BenchAllConfig) -> dict[str, Figures]:
    """Run the benchmarks whose figures are not there yet, each in a process of its own. Returns figures by name.

    Raises `UsageError` for unknown names, and `subprocess.CalledProcessError` if a benchmark fails.
    """
    unknown = [name for name in config.only if name not in BENCHMARKS]
    if unknown:
        raise UsageError(f"--only: no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    figures, release = config.data_dir / "figures", config.data_dir / "release"
    figures.mkdir(parents=True, exist_ok=True)
    if config.releases is not None and config.releases.resolve() != release:
        shutil.copytree(config.releases, release, dirs_exist_ok=True)
    names = config.only or list(BENCHMARKS)
    for name in names:
        target = figures / f"{name}.json"
        if not target.exists():
            _run(BENCHMARKS[name], config, release, target)
    return {name: json.loads((figures / f"{name}.json").read_text()) for name in names}


def _run(benchmark: BenchCall, config: BenchAllConfig, release: Path, target: Path) -> None:
    command = [sys.executable, "-m", "anabranch", *benchmark.global_options, "bench", *benchmark.arguments]
    command += ["--repeats", str(config.repeats), "--data-dir", str(config.data_dir), "--json", str(target)]
    command += benchmark.small if config.small else ()
    command += ["--releases", str(release)] if release.exists() else []
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    if not release.exists():  # the one that this benchmark trained: the others serve it too
        shutil.copytree(config.data_dir / "releases", release)


def rows(figures: Mapping[str, Figures]) -> Iterator[Row]:
    """The rows of the benchmarks that were run."""
    if "throughput" in figures:
        yield from _throughput_rows(figures["throughput"])
    if "latency" in figures:
        yield _latency_row(figures["latency"])
    if "throughput" in figures and "two-rankers" in figures:
        one_ranker, two_rankers = (
            figures["throughput"]["events_per_second"],
            figures["two-rankers"]["events_per_second"],
        )
        yield Row("two rankers / one ranker", two_rankers["mean"] / one_ranker["mean"], 0.0, "", 1.6)
    if "items" in figures:
        yield from _items_rows(figures["items"])
    if "users" in figures:
        yield from _users_rows(figures["users"])
    if "swap" in figures:
        yield from _swap_rows(figures["swap"])
    if "idle" in figures:
        yield from _idle_rows(figures["idle"])
    if "serve" in figures:
        yield from _serve_rows(figures["serve"])


def _throughput_rows(figures: Figures) -> Iterator[Row]:
    noop = max(rate["mean"] for rate in figures["echo_events_per_second"].values())
    yield _row("events/s, one ranker", figures["events_per_second"], "", 10_000, baseline=f"no-op {noop:,.0f}")
    yield _row("share of the no-op baseline", figures["share_of_best_echo"], "", 0.5)
    yield _row("native stages' share of the cores' time", figures["kernel_share"], "", 0.4)


def _latency_row(figures: Figures) -> Row:
    noop_ms = figures["echo_ms"]["p99"]["mean"]
    name = f"p99 at {figures['plan']['rate']:,.0f} events/s"
    return _row(name, figures["ranker_ms"]["p99"], "ms", 50, at_most=True, baseline=f"no-op {noop_ms:,.0f} ms")


def _items_rows(figures: Figures) -> Iterator[Row]:
    by_size = {size["items"]: size for size in figures["sizes"]}
    largest, usual = by_size[max(by_size)], sorted(by_size)[-2]
    usual_rate = by_size[usual]["events_per_second"]["mean"]
    rate = largest["events_per_second"]
    yield Row(
        f"events/s with {largest['items']:,} items / {usual:,}",
        rate["mean"] / usual_rate,
        rate["sd"] / usual_rate,
        "",
        0.5,
        baseline=f"{usual_rate:,.0f} events/s",
    )
    yield Row(f"recall@100 with {largest['items']:,} items", largest["recall_at_100"], 0.0, "", 0.95)
    yield _row("a new item is recommended after", largest["found_after_ms"], "ms", 1000, at_most=True)
    yield _row("a removed item is gone after", largest["gone_after_ms"], "ms", 1000, at_most=True)
    yield _row(
        "p99 during an index rebuild / without",
        largest["p99_of_rebuilding_against_calm"],
        "",
        2,
        at_most=True,
        baseline=f"without {largest['calm_ms']['p99']['mean']:,.0f} ms",
    )


def _users_rows(figures: Figures) -> Iterator[Row]:
    largest = max(figures["users"], key=lambda size: int(size["users"]))
    memory = f"GB with {largest['users']:,} users"
    yield Row("bytes per user state", largest["memory_bytes_per_user"]["mean"], 0.0, "", 1024, at_most=True)
    yield _row(memory, largest["resident_bytes"], "GB", 1.2, at_most=True, scale=1e-9)
    partitions = int(figures["machine"]["partitions"])
    seconds = largest["seconds"]
    yield Row(
        f"restore of a partition with {largest['users'] / partitions:,.0f} users",
        seconds["mean"] / partitions,
        seconds["sd"] / partitions,
        "s",
        20,
        at_most=True,
    )


def _swap_rows(figures: Figures) -> Iterator[Row]:
    calm_ms = figures["without_swap_ms"]["p99"]
    pause = figures["pause_ms"]
    yield _row("largest latency at a swap", pause, "ms", 200, at_most=True, baseline=f"p99 without {calm_ms:,.0f} ms")
    mixed = figures["partitions_that_mixed_releases"]
    yield Row("partitions that mixed releases", mixed, 0.0, "", 0, at_most=True)


def _idle_rows(figures: Figures) -> Iterator[Row]:
    shares, first_ms = figures["cpu_share"], figures["next_event_ms"]
    noop = f"no-op {100 * shares['echo']['mean']:.2g} %"
    for name in ("ranker", "indexer"):
        yield _row(f"CPU of an idle {name}", shares[name], "% of a core", 2, at_most=True, baseline=noop, scale=100)
    noop_ms = first_ms["echo"]["mean"]
    yield _row(
        "ranking of the next event", first_ms["ranker"], "ms", 100, at_most=True, baseline=f"no-op {noop_ms:,.0f} ms"
    )


def _serve_rows(figures: Figures) -> Iterator[Row]:
    probes = f"probes {figures['probes_per_second']['mean']:,.0f}"
    yield _row("requests/s, one server", figures["requests_per_second"], "", 1000, baseline=probes)
    name = f"p99 at {figures['plan']['rate']:,.0f} requests/s"
    yield _row(name, figures["latency_ms"]["p99"], "ms", 25, at_most=True)


def _row(name: str, figures: Mapping[str, float], *rest: Any, scale: float = 1.0, **named: Any) -> Row:
    return Row(name, scale * figures["mean"], scale * figures["sd"], *rest, **named)


def show(figures: Mapping[str, Figures], console: Console) -> None:
    """Print the table."""
    title = "One ranker, exactly-once, a ranking for every event"
    table = Table("", "figure", "baseline", "target", "", title=title)
    for row in rows(figures):
        table.add_row(
            row.name,
            f"{_number(row.figure)} ± {_number(row.spread)} {row.unit}".strip(),
            row.baseline,
            f"{'at most' if row.at_most else 'at least'} {_number(row.target)}",
            "met" if row.met else "missed",
        )
    console.print(table)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
