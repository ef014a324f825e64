"""The measurements behind the results, each one call of `anabranch evaluate` in a process of its own."""

from __future__ import annotations

import os
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
class Measurement:
    """One evaluation, repeated with several random seeds."""

    name: str
    folders: tuple[str, ...]
    """Folders of the benchmark data."""
    protocol: str
    options: tuple[str, ...] = ()
    max_repeats: int | None = None
    """None: as many repeats as the command line says."""

    def arguments(self, data: Path, results: Path, random_seed: int) -> list[str]:
        """The arguments of `anabranch`."""
        folders = [argument for folder in self.folders for argument in ("--data", str(data / folder))]
        output = ["--json", str(results / figures_file(self.name, random_seed))]
        if self.protocol != "weekly":
            output += ["--ranks", str(results / ranks_file(self.name, random_seed))]
        protocol = ["--protocol", self.protocol, "--random-seed", str(random_seed), "--threads", "1"]
        return ["evaluate", *folders, *protocol, *self.options, *output]


AMAZON = ("amazon_beauty", "amazon_toys", "amazon_pantry")
TOGETHER, JOINTLY = "together", "jointly"
WAYS = ("fine_tuned", "retrained", "shared", "co_visit")
ADAPTED = "text_geometry,domain_adapters"
DISTILLED = "text_geometry,rank_distillation"
MEASUREMENTS = (
    Measurement("diginetica", ("diginetica",), "sessions", ("--seeds",)),
    Measurement("video", ("video",), "leave-one-out"),
    Measurement("amazon_beauty", AMAZON[:1], "leave-one-out"),
    Measurement("amazon_toys", AMAZON[1:2], "leave-one-out"),
    Measurement(TOGETHER, AMAZON, "leave-one-out", ("--seeds",)),
    Measurement(JOINTLY, AMAZON, "leave-one-out", ("--strategies", "none")),
    Measurement("together_adapted", AMAZON, "leave-one-out", ("--strategies", ADAPTED), max_repeats=1),
    Measurement("beauty_ids_alone", AMAZON[:1], "leave-one-out", ("--strategies", "none"), max_repeats=1),
    Measurement("beauty_adapted", AMAZON[:1], "leave-one-out", ("--text-adapter", "lora"), max_repeats=1),
    Measurement("beauty_distilled", AMAZON[:1], "leave-one-out", ("--strategies", DISTILLED), max_repeats=1),
    Measurement("diginetica_distilled", ("diginetica",), "sessions", ("--strategies", DISTILLED), max_repeats=1),
    *(Measurement(f"weekly_{way}", ("diginetica_weekly",), "weekly", ("--way", way)) for way in WAYS),
)


def select(names: Sequence[str] | None) -> list[Measurement]:
    """The named measurements, or all. Raises `UsageError` for unknown names."""
    by_name = {measurement.name: measurement for measurement in MEASUREMENTS}
    unknown = [name for name in names or () if name not in by_name]
    if unknown:
        raise UsageError(f"--only: no measurement {', '.join(unknown)}; there are {', '.join(by_name)}")
    return [by_name[name] for name in names] if names else list(MEASUREMENTS)


def figures_file(name: str, random_seed: int) -> str:
    """The file name of a measurement's figures."""
    return f"{name}-{random_seed}.json"


def ranks_file(name: str, random_seed: int) -> str:
    """The file name of a measurement's ranks, event by event."""
    return f"{name}-{random_seed}.npz"


def measure(measurements: Sequence[Measurement], data: Path, results: Path, random_seeds: int, jobs: int) -> None:
    """Run the measurements that have no figures yet, `jobs` at a time. Raises `MeasurementFailed` for the first failed.

    Raises `UsageError` if there is no folder `data`.
    """
    if not data.is_dir():
        raise UsageError(f"{data} is no folder: name the folder of benchmark data with --data")
    os.environ["OMP_NUM_THREADS"] = "1"  # for the child processes: they would compete for the cores
    results.mkdir(parents=True, exist_ok=True)
    missing = [
        (measurement, random_seed)
        for random_seed in range(random_seeds)
        for measurement in measurements
        if random_seed < min(random_seeds, measurement.max_repeats or random_seeds)
        and not (results / figures_file(measurement.name, random_seed)).exists()
    ]
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(_run, measurement, data, results, random_seed) for measurement, random_seed in missing]
        for future in futures:
            future.result()


def _run(measurement: Measurement, data: Path, results: Path, random_seed: int) -> None:
    log = results / f"{measurement.name}-{random_seed}.log"
    command = [sys.executable, "-m", "anabranch", *measurement.arguments(data, results, random_seed)]
    with log.open("w") as output:
        ended = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False)
    if ended.returncode:
        raise MeasurementFailed(f"{measurement.name} with random seed {random_seed} failed: see {log}")
