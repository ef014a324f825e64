"""The measurements behind the results, each one call of `anabranch evaluate` in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from anabranch.errors import AnabranchError, UsageError


class MeasurementFailed(AnabranchError):
    """A call of `anabranch evaluate` that ended with an error."""


@dataclass(frozen=True)
class Cell:
    """One measurement, repeated with several training seeds."""

    name: str
    folders: tuple[str, ...]
    protocol: str
    options: tuple[str, ...] = ()
    repeats: int | None = None
    """None: as many as are asked for."""

    def arguments(self, data: Path, kept: Path, seed: int) -> list[str]:
        """What `anabranch` is called with."""
        folders = [argument for folder in self.folders for argument in ("--data", str(data / folder))]
        made = ["--json", str(kept / file_of(self.name, seed)), "--ranks", str(kept / ranks_of(self.name, seed))]
        protocol = ["--protocol", self.protocol, "--seed", str(seed), "--threads", "1"]
        return ["evaluate", *folders, *protocol, *self.options, *(made[:2] if self.protocol == "weekly" else made)]


AMAZON = ("amazon_beauty", "amazon_toys", "amazon_pantry")
TOGETHER, JOINTLY = "together", "jointly"
WAYS = ("fine_tuned", "retrained", "shared", "co_visit")
ADAPTED = "text_geometry,domain_adapters"
DISTILLED = "text_geometry,rank_distillation"
CELLS = (
    Cell("diginetica", ("diginetica",), "sessions", ("--seeds",)),
    Cell("video", ("video",), "leave-one-out"),
    Cell("amazon_beauty", AMAZON[:1], "leave-one-out"),
    Cell("amazon_toys", AMAZON[1:2], "leave-one-out"),
    Cell(TOGETHER, AMAZON, "leave-one-out", ("--seeds",)),
    Cell(JOINTLY, AMAZON, "leave-one-out", ("--strategies", "text_geometry")),
    Cell("together_adapted", AMAZON, "leave-one-out", ("--strategies", ADAPTED), repeats=1),
    Cell("beauty_ids_alone", AMAZON[:1], "leave-one-out", ("--strategies", "none"), repeats=1),
    Cell("beauty_adapted", AMAZON[:1], "leave-one-out", ("--text-adapter", "lora"), repeats=1),
    Cell("beauty_distilled", AMAZON[:1], "leave-one-out", ("--strategies", DISTILLED), repeats=1),
    Cell("diginetica_distilled", ("diginetica",), "sessions", ("--strategies", DISTILLED), repeats=1),
    *(Cell(f"weekly_{way}", ("diginetica_weekly",), "weekly", ("--way", way)) for way in WAYS),
)


def chosen(names: Sequence[str] | None) -> list[Cell]:
    """All cells, or those named. Raises `UsageError`."""
    known = {cell.name: cell for cell in CELLS}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise UsageError(f"--only knows no {', '.join(unknown)}; it knows {', '.join(known)}")
    return [known[name] for name in names] if names else list(CELLS)


def file_of(name: str, seed: int) -> str:
    """Of one measurement."""
    return f"{name}-{seed}.json"


def ranks_of(name: str, seed: int) -> str:
    """Of one measurement's ranks, event by event."""
    return f"{name}-{seed}.npz"


def measure(cells: Sequence[Cell], data: Path, kept: Path, seeds: int, jobs: int) -> None:
    """Run what is not there yet, `jobs` at a time, seed by seed. Raises `MeasurementFailed` at the first that fails."""
    kept.mkdir(parents=True, exist_ok=True)
    wanted = [
        (cell, seed)
        for seed in range(seeds)
        for cell in cells
        if seed < (seeds if cell.repeats is None else cell.repeats) and not (kept / file_of(cell.name, seed)).exists()
    ]
    with ThreadPoolExecutor(jobs) as pool:
        for done in [pool.submit(_run, cell, data, kept, seed) for cell, seed in wanted]:
            done.result()


def _run(cell: Cell, data: Path, kept: Path, seed: int) -> None:
    log = kept / f"{cell.name}-{seed}.log"
    command = [sys.executable, "-m", "anabranch", *cell.arguments(data, kept, seed)]
    with log.open("w") as output:
        ended = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT)
    if ended.returncode:
        raise MeasurementFailed(f"{cell.name} with seed {seed} failed: {log} says why")
