"""models/RESULTS.md: a Jinja template, filled with the measurements that are there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from anabranch.harness.results import attribution_table, paired_ranks, tables, weekly_tables
from anabranch.harness.results.cells import Figures
from anabranch.harness.results.measurements import (
    JOINTLY,
    PLACEMENTS,
    TOGETHER,
    VARIETY,
    WEEKS_OF_HOUSEHOLDS,
    Measurement,
    all_measurements,
    figures_file,
)
from anabranch.harness.results.paired_ranks import OF_HISTORIES, OF_SESSIONS, OF_TIME_SPLITS, Metrics
from anabranch.harness.results.published import LEAVE_ONE_OUT, SESSIONS
from anabranch.harness.results.tables import Measured
from anabranch.harness.results.timed_data import HOUSEHOLDS, PREFIX, TimedData

WEEK_BY_WEEK = {"weekly_shared": OF_SESSIONS, WEEKS_OF_HOUSEHOLDS: OF_TIME_SPLITS}
"""Measurements of weekly re-sharing."""
METRICS_OF = {"sessions": OF_SESSIONS, "leave-one-out": OF_HISTORIES, "time-split": OF_TIME_SPLITS}
"""By protocol."""


def render(folder: Path, random_seeds: int) -> str:
    """The page, from a folder of figures and ranks. What is not measured is marked as such."""
    timed = _timed_data(folder)
    measurements = all_measurements(timed)
    figures = {measurement.name: _read(folder, measurement.name, random_seeds) for measurement in measurements}
    template = _environment().get_template("results.md")
    return template.render(
        tables=tables,
        attribution=attribution_table.attribution_rows,
        weekly=weekly_tables,
        metrics=paired_ranks,
        measured=Measured(figures, folder, random_seeds),
        figures=figures,
        sessions=SESSIONS,
        leave_one_out=LEAVE_ONE_OUT,
        together=TOGETHER,
        placements=PLACEMENTS,
        variety=VARIETY,
        jointly=JOINTLY,
        timed=[data.measurement for data in (HOUSEHOLDS, *timed)],
        histories=[*LEAVE_ONE_OUT, TOGETHER],
        measurements=measurements,
        compared=_compared(measurements),
        week_by_week=WEEK_BY_WEEK,
    )


def _compared(measurements: Sequence[Measurement]) -> dict[str, Metrics]:
    """The measurements that others are compared with, and by which metrics."""
    by_name = {measurement.name: measurement for measurement in measurements}
    bases = dict.fromkeys(measurement.base for measurement in measurements if measurement.base is not None)
    return {base: METRICS_OF[by_name[base].protocol] for base in bases}


def _timed_data(folder: Path) -> list[TimedData]:
    """The data sets with time stamps that were measured, besides the one that is always there."""
    events = {json.loads(path.read_text())["data"][0] for path in folder.glob(f"{PREFIX}*.json")}
    shops = {Path(file).parent for file in events}
    return [TimedData(shop.name, shop) for shop in sorted(shops) if shop.name != HOUSEHOLDS.name]


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("anabranch.harness.results"),
        autoescape=False,  # Markdown
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _read(folder: Path, name: str, random_seeds: int) -> list[Figures]:
    paths = [folder / figures_file(name, random_seed) for random_seed in range(random_seeds)]
    return [json.loads(path.read_text()) for path in paths if path.exists()]
