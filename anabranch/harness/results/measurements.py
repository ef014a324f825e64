"""The measurements behind the results, each one call of `anabranch evaluate` in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec

from anabranch.errors import AnabranchError, UsageError
from anabranch.harness.results.timed_data import HOUSEHOLDS, HOUSEHOLDS_OF_TWELVE_WEEKS, TimedData
from anabranch.placements import EACH_CLASS, FOR_YOU, AtMost, Placement


class MeasurementFailed(AnabranchError):
    """A call of `anabranch evaluate` that ended with an error."""


@dataclass(frozen=True)
class Places:
    """Folders of a run."""

    data: Path
    """Benchmark data."""
    figures: Path
    """Figures and ranks."""
    scratch: Path
    """Logs of measurements, and data that is written for them."""


@dataclass(frozen=True)
class Measurement:
    """One evaluation, repeated with several random seeds."""

    name: str
    folders: tuple[str, ...]
    """Folders of the benchmark data."""
    protocol: str
    options: tuple[str, ...] = ()
    base: str | None = None
    """The measurement that this one is compared with, event by event."""
    timed: TimedData | None = None
    """Files of events with time stamps, in place of folders."""
    settings: tuple[str, ...] = ()
    """NAME=VALUE, other than the defaults."""

    def arguments(self, places: Places, random_seed: int) -> list[str]:
        """The arguments of `anabranch`."""
        output = ["--json", str(places.figures / figures_file(self.name, random_seed))]
        if self.protocol in ("sessions", "leave-one-out", "time-split"):
            output += ["--ranks", str(places.figures / ranks_file(self.name, random_seed))]
        protocol = ["--protocol", self.protocol, "--random-seed", str(random_seed), "--threads", "1"]
        changed = [argument for setting in self.settings for argument in ("--set", setting)]
        return [*changed, "evaluate", *self._data(places), *protocol, *self.options, *output]

    def _data(self, places: Places) -> list[str]:
        if self.timed is not None:
            return self.timed.arguments(places.scratch)
        return [argument for folder in self.folders for argument in ("--data", str(places.data / folder))]


AMAZON = ("amazon_beauty", "amazon_toys", "amazon_pantry")
TOGETHER, JOINTLY = "together", "jointly"
WAYS = ("fine_tuned", "retrained", "shared", "co_visit")
ROWS = ("train", "train+validation")
WITHOUT_EACH = ("--without", "each")
WITHOUT_SERVED = ("--without", "encoder,neighbours,learned_order")
"""The parts for which no release is trained again."""
WEEKS_OF_HOUSEHOLDS = f"{HOUSEHOLDS.measurement}_weekly"
NEW_ITEMS = "beauty_new_items"
A_TENTH_NEW = ("--train-on", "train", "--new-items", "0.1")
PLACEMENTS = f"placements_{HOUSEHOLDS_OF_TWELVE_WEEKS.name}"
VARIETY = f"variety_{HOUSEHOLDS_OF_TWELVE_WEEKS.name}"
VARIED = (
    FOR_YOU,
    Placement(name="three_of_a_category", at_most=AtMost(category=3)),
    Placement(name="one_of_a_category", at_most=AtMost(category=1)),
    *(Placement(name=f"calibration_{share}", calibration=share / 100) for share in (5, 10, 20, 40)),
)
"""Of calibrations, the number is in hundredths."""
TEN_OF_TWELVE_WEEKS = ("--share", "0.8246")
"""The test is the weeks 11 and 12."""


def on_rows(data: str, rows: str) -> str:
    """The name of the measurement of a leave-one-out data set on these rows."""
    return f"{data}_train" if rows == "train" else data


def _leave_one_out(data: str) -> list[Measurement]:
    return [
        Measurement(on_rows(data, "train"), (data,), "leave-one-out", ("--train-on", "train")),
        Measurement(data, (data,), "leave-one-out", ("--train-on", "train+validation", "--seeds", *WITHOUT_EACH)),
    ]


def _strategies(name: str, base: str, folders: tuple[str, ...], protocol: str, *options: str) -> Measurement:
    """Another choice of strategies or adapter, compared with the preset's."""
    return Measurement(name, folders, protocol, options, base=base)


def _on_timed(data: TimedData) -> list[Measurement]:
    """A global split in time: the test is later than everything that is learned."""
    split = ("--share", "0.9")
    return [
        Measurement(data.measurement, (), "time-split", ("--seeds", *WITHOUT_EACH, *split), timed=data),
        Measurement(f"{data.measurement}_prequential", (), "prequential", split, timed=data),
    ]


def _multi_task(data: TimedData) -> Measurement:
    """Of all data, only files may have the several event types that this strategy needs."""
    options = ("--strategies", "text_geometry,multi_task", "--share", "0.9")
    return Measurement(f"{data.measurement}_multi_task", (), "time-split", options, data.measurement, data)


def _as_setting(placements: Sequence[Placement]) -> str:
    return f"placements={msgspec.json.encode(placements).decode()}"


MEASUREMENTS = (
    Measurement("diginetica", ("diginetica",), "sessions", ("--seeds", *WITHOUT_EACH)),
    *(measurement for data in ("video", *AMAZON[:2]) for measurement in _leave_one_out(data)),
    Measurement(TOGETHER, AMAZON, "leave-one-out", ("--seeds", *WITHOUT_SERVED)),
    _strategies(JOINTLY, TOGETHER, AMAZON, "leave-one-out", "--strategies", "none"),
    _strategies("together_adapted", TOGETHER, AMAZON, "leave-one-out", "--strategies", "text_geometry,domain_adapters"),
    _strategies("together_merged", TOGETHER, AMAZON, "leave-one-out", "--strategies", "text_geometry,merging"),
    _strategies("beauty_adapted", AMAZON[0], AMAZON[:1], "leave-one-out", "--text-adapter", "lora"),
    Measurement(NEW_ITEMS, AMAZON[:1], "leave-one-out", A_TENTH_NEW),
    _strategies(
        "beauty_new_items_ids_alone", NEW_ITEMS, AMAZON[:1], "leave-one-out", "--strategies", "none", *A_TENTH_NEW
    ),
    _strategies(
        "beauty_new_items_adapted", NEW_ITEMS, AMAZON[:1], "leave-one-out", "--text-adapter", "lora", *A_TENTH_NEW
    ),
    _strategies(
        "beauty_distilled", AMAZON[0], AMAZON[:1], "leave-one-out", "--strategies", "text_geometry,rank_distillation"
    ),
    _strategies(
        "diginetica_distilled",
        "diginetica",
        ("diginetica",),
        "sessions",
        "--strategies",
        "text_geometry,rank_distillation",
    ),
    *(Measurement(f"weekly_{way}", ("diginetica_weekly",), "weekly", ("--way", way)) for way in WAYS),
    *_on_timed(HOUSEHOLDS),
    Measurement(WEEKS_OF_HOUSEHOLDS, (), "weekly", ("--way", "shared"), timed=HOUSEHOLDS),
    Measurement(
        PLACEMENTS,
        (),
        "prequential",
        TEN_OF_TWELVE_WEEKS,
        timed=HOUSEHOLDS_OF_TWELVE_WEEKS,
        settings=(_as_setting(EACH_CLASS),),
    ),
    Measurement(
        VARIETY,
        (),
        "time-split",
        TEN_OF_TWELVE_WEEKS,
        timed=HOUSEHOLDS_OF_TWELVE_WEEKS,
        settings=(_as_setting(VARIED),),
    ),
)


def all_measurements(timed: Sequence[TimedData] = ()) -> list[Measurement]:
    """Those of the page, and of more data with time stamps."""
    return [*MEASUREMENTS, *(measurement for data in timed for measurement in (*_on_timed(data), _multi_task(data)))]


def select(names: Sequence[str] | None, timed: Sequence[TimedData] = ()) -> list[Measurement]:
    """The named measurements, or all. Raises `UsageError` for unknown names."""
    by_name = {measurement.name: measurement for measurement in all_measurements(timed)}
    unknown = [name for name in names or () if name not in by_name]
    if unknown:
        raise UsageError(f"--only: no measurement {', '.join(unknown)}; there are {', '.join(by_name)}")
    return [by_name[name] for name in names] if names else list(by_name.values())


def figures_file(name: str, random_seed: int) -> str:
    """The file name of a measurement's figures."""
    return f"{name}-{random_seed}.json"


def ranks_file(name: str, random_seed: int) -> str:
    """The file name of a measurement's ranks, event by event."""
    return f"{name}-{random_seed}.npz"


def measure(measurements: Sequence[Measurement], places: Places, random_seeds: int, jobs: int) -> None:
    """Run the measurements that have no figures yet, `jobs` at a time. Raises `MeasurementFailed` for the first failed.

    Raises `UsageError` if there is no folder of benchmark data.
    """
    if not places.data.is_dir():
        raise UsageError(f"{places.data} is no folder: name the folder of benchmark data with --data")
    os.environ["OMP_NUM_THREADS"] = "1"  # for the child processes: they would compete for the cores
    for folder in (places.figures, places.scratch):
        folder.mkdir(parents=True, exist_ok=True)
    missing = [
        (measurement, random_seed)
        for random_seed in range(random_seeds)
        for measurement in measurements
        if not (places.figures / figures_file(measurement.name, random_seed)).exists()
    ]
    for data in {measurement.timed for measurement, _ in missing} - {None}:
        assert data is not None
        data.prepare(places.scratch)
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(_run, measurement, places, random_seed) for measurement, random_seed in missing]
        for future in futures:
            future.result()


def _run(measurement: Measurement, places: Places, random_seed: int) -> None:
    log = places.scratch / f"{measurement.name}-{random_seed}.log"
    command = [sys.executable, "-m", "anabranch", *measurement.arguments(places, random_seed)]
    with log.open("w") as output:
        ended = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False)
    if ended.returncode:
        raise MeasurementFailed(f"{measurement.name} with random seed {random_seed} failed: see {log}")
    name_data(places.figures / figures_file(measurement.name, random_seed), measurement.folders, places)


def name_data(figures: Path, folders: Sequence[str], places: Places) -> None:
    """Let a file of figures, which is published, name the folders of benchmark data, and not where they are here."""
    text = figures.read_text()
    for folder in folders:
        text = text.replace(json.dumps(str(places.data / folder)), json.dumps(folder))
    figures.write_text(text)
