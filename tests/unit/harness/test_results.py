"""The page of results says what was measured, with its spread, and what was not."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from anabranch.cli.main import app
from anabranch.errors import UsageError
from anabranch.harness.results import measurements, page, published
from anabranch.harness.results.measurements import MEASUREMENTS, figures_file
from models.evaluation.summaries import Quality


def write_figures(folder: Path, name: str, seed: int, hits: int) -> None:
    """A measurement of a hundred events, so many of them hits at the top."""
    quality = msgspec.to_builtins(Quality.from_ranks(np.repeat([1, 0], [hits, 100 - hits]).astype(np.int32)))
    figures = {
        "all": quality,
        "slices": {"cold_items": quality},
        "seeds": {},
        "strategy": {"name": "text_geometry"},
        "cost": {"seconds": 2.0, "cpu_seconds": 3.0, "peak_bytes": 2**30},
    }
    (folder / figures_file(name, seed)).write_bytes(msgspec.json.encode(figures))


def test_a_figure_is_the_mean_of_the_seeds_with_their_spread_beside_the_published_ones(tmp_path: Path) -> None:
    for seed, hits in enumerate((10, 12, 14)):
        write_figures(tmp_path, "video", seed, hits)
    rendered = page.render(tmp_path, 3)
    assert "| **served** | 0.1200 ± 0.0200 | 0.1200 ± 0.0200 |" in rendered
    assert "| LRURec (published) | 0.1134 | 0.0620 |" in rendered


def test_one_seed_has_no_spread_and_says_so(tmp_path: Path) -> None:
    write_figures(tmp_path, "video", 0, 10)
    assert "0.1000 (one seed)" in page.render(tmp_path, 3)


def test_what_was_not_measured_is_not_made_up(tmp_path: Path) -> None:
    rendered = page.render(tmp_path, 3)
    assert rendered.count("not measured") >= len(published.LEAVE_ONE_OUT) + 4
    assert "served** | 0" not in rendered


def test_what_was_measured_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, int]] = []
    monkeypatch.setattr(measurements, "_run", lambda measurement, *rest: ran.append((measurement.name, rest[-1])))
    write_figures(tmp_path, "video", 1, 10)
    measurements.measure(measurements.select(["video"]), tmp_path, tmp_path, random_seeds=3, jobs=1)
    assert ran == [("video", 0), ("video", 2)]


def test_every_measurement_is_a_call_that_the_command_line_takes(tmp_path: Path) -> None:
    for measurement in MEASUREMENTS:
        called = CliRunner().invoke(app, ["--data-dir", str(tmp_path), *measurement.arguments(tmp_path, tmp_path, 0)])
        assert "is missing" in called.output or "has 0 files period_*.parquet" in called.output  # the data, no option


def test_the_ways_of_learning_a_week_are_compared_period_by_period(tmp_path: Path) -> None:
    for way, periods in {"shared": (50, 60, 70), "retrained": (40, 65, 60)}.items():
        figures = {
            "periods": [{"all": {"recall": {"20": hits / 100}, "mrr": {"20": hits / 200}}} for hits in periods],
            "cost": [{"cpu_seconds": 2.0} for _ in periods],
        }
        (tmp_path / figures_file(f"weekly_{way}", 0)).write_text(json.dumps({"ways": {way: figures}}))
    rendered = page.render(tmp_path, 1)
    assert "| shared - retrained | +0.0500 | 2 of 3 | +0.0250 | 2 of 3 |" in rendered
    assert "shared - fine_tuned" not in rendered


def test_an_unknown_measurement_is_refused_with_those_known() -> None:
    with pytest.raises(UsageError, match="--only: no measurement music; there are diginetica, video"):
        measurements.select(["music"])


def test_the_page_reads_what_evaluate_writes(tmp_path: Path) -> None:
    write_figures(tmp_path, "diginetica", 0, 50)
    assert json.loads((tmp_path / figures_file("diginetica", 0)).read_text())["all"]["recall"]["20"] == 0.5
    assert "| **served** | 0.5000 (one seed)" in page.render(tmp_path, 1)
