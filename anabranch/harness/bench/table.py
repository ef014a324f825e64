"""`anabranch bench all`: every benchmark of the ranker, and one table of figures, limits and bars."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Figures = dict[str, Any]
BENCHMARKS: Mapping[str, tuple[str, ...]] = {
    "throughput": ("bench", "throughput"),
    "two-rankers": ("bench", "throughput", "--rankers", "2"),
    "latency": ("bench", "latency"),
    "items": ("bench", "items"),
    "users": ("bench", "users"),
    "swap": ("bench", "swap"),
    "latency-two-rankers": ("bench", "latency", "--rankers", "2"),
    "latency-1-partition": ("--set", "partitions=1", "bench", "latency"),
    "latency-16-partitions": ("--set", "partitions=16", "bench", "latency"),
}
"""Arguments by the name of the file that keeps what came of it; the last three are for the growth curves alone."""


@dataclass(frozen=True)
class Row:
    """A figure, what it is held against, and the bar."""

    what: str
    figure: float
    spread: float
    unit: str
    bar: float
    at_most: bool = False
    limit: str = ""
    """Of the same run."""

    @property
    def met(self) -> bool:
        """Whether the bar is."""
        return self.figure <= self.bar if self.at_most else self.figure >= self.bar


def measure(data_dir: Path, releases: Path | None, repeats: int) -> dict[str, Figures]:
    """Run what has not been run while its file stands, each in a process of its own; figures by name.

    Raises `subprocess.CalledProcessError` where a benchmark fails.
    """
    kept, release = data_dir / "figures", data_dir / "release"
    kept.mkdir(parents=True, exist_ok=True)
    if releases is not None and releases.resolve() != release:
        shutil.copytree(releases, release, dirs_exist_ok=True)
    for name, arguments in BENCHMARKS.items():
        target = kept / f"{name}.json"
        if target.exists():
            continue
        command = [sys.executable, "-m", "anabranch", *arguments, "--repeats", str(repeats)]
        command += ["--data-dir", str(data_dir), "--json", str(target)]
        command += ["--releases", str(release)] if release.exists() else []
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        if not release.exists():
            shutil.copytree(data_dir / "releases", release)  # the one it made: the others serve it too
    return {name: json.loads((kept / f"{name}.json").read_text()) for name in BENCHMARKS}


def rows(found: Mapping[str, Figures]) -> Iterator[Row]:
    """The table's rows."""
    one, two, latency = found["throughput"], found["two-rankers"], found["latency"]
    echo = max(figures["mean"] for figures in one["echo_events_per_second"].values())
    share = one["share_of_best_echo"]
    yield _row("events/s, one ranker", one["events_per_second"], "", 10_000, limit=f"echo {echo:,.0f}")
    yield _row("share of the echo's", share, "", 0.5)
    yield _row("kernels' share of the cores' time", one["kernel_share"], "", 0.4)
    rate = latency["plan"]["rate"]
    yield _row(
        f"p99 at {rate:,.0f} events/s",
        latency["ranker_ms"]["p99"],
        "ms",
        50,
        at_most=True,
        limit=f"echo {latency['echo_ms']['p99']['mean']:,.0f} ms",
    )
    ratio = two["events_per_second"]["mean"] / one["events_per_second"]["mean"]
    yield Row("two rankers against one", ratio, 0.0, "", 1.6)
    yield from _of_items(found["items"])
    yield from _of_users(found["users"])
    swap = found["swap"]
    calm = swap["without_swap_ms"]["p99"]
    yield _row("longest wait at a swap", swap["pause_ms"], "ms", 200, at_most=True, limit=f"p99 without {calm:,.0f} ms")
    yield Row("partitions that mixed releases", swap["partitions_that_mixed_releases"], 0.0, "", 0, at_most=True)


def _of_items(found: Figures) -> Iterator[Row]:
    by_size = {one["items"]: one for one in found["sizes"]}
    most, usual = by_size[max(by_size)], sorted(by_size)[-2]
    usual_speed = by_size[usual]["events_per_second"]["mean"]
    speed = most["events_per_second"]
    yield Row(
        f"events/s at {most['items']:,} items against {usual:,}",
        speed["mean"] / usual_speed,
        speed["sd"] / usual_speed,
        "",
        0.5,
        limit=f"{usual_speed:,.0f} events/s",
    )
    yield Row("recall@100 there", most["recall_at_100"], 0.0, "", 0.95)
    yield _row("an item is found after", most["found_after_ms"], "ms", 1000, at_most=True)
    yield _row("an item is gone after", most["gone_after_ms"], "ms", 1000, at_most=True)
    calm = most["calm_ms"]["p99"]["mean"]
    yield _row(
        "p99 beside a rebuild against calm",
        most["p99_of_rebuilding_against_calm"],
        "",
        2,
        at_most=True,
        limit=f"calm {calm:,.0f} ms",
    )


def _of_users(found: Figures) -> Iterator[Row]:
    most = max(found["users"], key=lambda one: int(one["users"]))
    yield Row("bytes of a user's state", most["memory_bytes_per_user"]["mean"], 0.0, "", 1024, at_most=True)
    yield _row(f"GB with {most['users']:,} users", most["resident_bytes"], "GB", 1.2, at_most=True, scale=1e-9)
    partitions = int(found["machine"]["partitions"])
    users = most["users"] / partitions
    seconds = most["seconds"]
    yield Row(
        f"restore of a partition of {users:,.0f} users",
        seconds["mean"] / partitions,
        seconds["sd"] / partitions,
        "s",
        20,
        at_most=True,
    )


def _row(what: str, figures: Mapping[str, float], *rest: Any, scale: float = 1.0, **named: Any) -> Row:
    return Row(what, scale * figures["mean"], scale * figures["sd"], *rest, **named)


def show(found: Mapping[str, Figures], console: Console) -> None:
    """Print the table."""
    table = Table("", "figure", "beside it", "bar", "", title="One ranker, exactly once, every event ranked")
    for row in rows(found):
        sign = "at most" if row.at_most else "at least"
        table.add_row(
            row.what,
            f"{_number(row.figure)} ± {_number(row.spread)} {row.unit}".strip(),
            row.limit,
            f"{sign} {_number(row.bar)}",
            "met" if row.met else "missed",
        )
    console.print(table)


def _number(value: float) -> str:
    form: Callable[[float], str] = (lambda one: f"{one:,.0f}") if abs(value) >= 100 else (lambda one: f"{one:.3g}")
    return form(value)
