"""models/RESULTS.md: a Jinja template, filled with the measurements that are there."""

from __future__ import annotations

import json
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from anabranch.harness.results import tables
from anabranch.harness.results.measurements import MEASUREMENTS, TOGETHER, figures_file
from anabranch.harness.results.published import LEAVE_ONE_OUT, SESSIONS


def render(results: Path, random_seeds: int) -> str:
    """The page. Measurements that are missing are marked as such."""
    figures = {measurement.name: _read(results, measurement.name, random_seeds) for measurement in MEASUREMENTS}
    template = _environment().get_template("results.md")
    return template.render(
        tables=tables,
        figures=figures,
        sessions=SESSIONS,
        leave_one_out=LEAVE_ONE_OUT,
        together=figures[TOGETHER],
        results=results,
        random_seeds=random_seeds,
    )


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("anabranch.harness.results"),
        autoescape=False,  # Markdown
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _read(results: Path, name: str, random_seeds: int) -> list[tables.Figures]:
    paths = [results / figures_file(name, random_seed) for random_seed in range(random_seeds)]
    return [json.loads(path.read_text()) for path in paths if path.exists()]
