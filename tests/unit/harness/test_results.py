"""The page of results says what was measured, with its spread, and what was not."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from anabranch.cli.main import app
from anabranch.errors import UsageError
from anabranch.harness.results import measurements, page, paired_ranks, published
from anabranch.harness.results.measurements import (
    MEASUREMENTS,
    PLACEMENTS,
    VARIETY,
    MeasurementFailed,
    Places,
    figures_file,
    name_data,
    ranks_file,
    select,
)
from anabranch.harness.results.timed_data import TimedData
from anabranch.placements import EACH_CLASS, Placement
from models.evaluation.prequential import Prequential, compare
from models.evaluation.rank_files import RankedEvents, write_ranks
from models.evaluation.summaries import Quality
from models.metrics.bootstrap import Interval
from models.metrics.ranking import Ranks
from models.report.prequential_table import prequential_as_json

EVENTS = 100
TESTED = RankedEvents([f"{user:03}" for user in range(EVENTS)], np.arange(EVENTS))
"""In ascending order of the users, as in the files."""
DAY = "2026-11-29"
INTERVAL = re.compile(r"[+-]\d\.\d{4} \[[^]]*\]|yes|\*\*no\*\*")
"""And what follows from it."""
OF_THE_DATA = ("is missing", "has 0 files period_*.parquet", "items.parquet: there is no such file")
"""Problems that are not of an option."""


def hit(hits: int) -> Ranks:
    """A hundred events, so many of them hits at the top."""
    return np.repeat([1, 0], [hits, EVENTS - hits]).astype(np.int32)


def write_figures(
    folder: Path, name: str, seed: int, hits: int, without: Mapping[str, int] = {}, seeds: Mapping[str, int] = {}
) -> None:
    """Figures and ranks as `anabranch evaluate` writes them; so many hits, also without a part and by seed models."""
    ranks = hit(hits)
    quality = msgspec.to_builtins(Quality.from_ranks(ranks))
    figures = {
        "date": DAY,
        "all": quality,
        "slices": {"cold_items": quality},
        "seeds": {model: {"all": msgspec.to_builtins(Quality.from_ranks(hit(own)))} for model, own in seeds.items()},
        "strategy": {"name": "text_geometry"},
        "cost": {"seconds": 2.0, "cpu_seconds": 3.0, "peak_bytes": 2**30},
        "without": {
            part: {"trained_again": "release", "all": msgspec.to_builtins(Quality.from_ranks(hit(left)))}
            for part, left in without.items()
        },
    }
    (folder / figures_file(name, seed)).write_bytes(msgspec.json.encode(figures))
    by_event = {
        "rank": ranks,
        "masks": np.arange(EVENTS)[None] < EVENTS // 2,
        "without_rank": np.array([hit(left) for left in without.values()], np.int32).reshape(len(without), EVENTS),
        "seeds_rank": np.array([hit(own) for own in seeds.values()], np.int32).reshape(len(seeds), EVENTS),
    }
    names = {"slices": ["cold_items"], "without": list(without), "seeds": list(seeds)}
    write_ranks(folder / ranks_file(name, seed), TESTED, by_event, names)


def write_peer(folder: Path, model: str, rows: str, hits: int, events: RankedEvents) -> None:
    """Figures and ranks as `make sequential-peers` writes them."""
    figures = msgspec.to_builtins(Quality.from_ranks(hit(hits)))
    name = f"peer-{model}-video-{rows}-0"
    (folder / f"{name}.json").write_bytes(msgspec.json.encode({"model": model, "rows": rows, **figures}))
    write_ranks(folder / f"{name}.npz", events, {"rank": hit(hits)})


def row_of(rendered: str, start: str) -> list[str]:
    """The cells of the first row of a table that starts so."""
    [line, *_] = [line for line in rendered.splitlines() if line.startswith(start)]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_figure_is_the_mean_of_the_random_seeds_with_their_spread(tmp_path: Path) -> None:
    for seed, hits in enumerate((10, 12, 14)):
        write_figures(tmp_path, "diginetica", seed, hits)
    rendered = page.render(tmp_path, 3)
    assert "| **served** | 0.1200 ± 0.0200 | 0.1200 ± 0.0200 |" in rendered
    assert "| SR-GNN | | | 0.5073 | 0.1759 |" in rendered, "published figures have columns of their own"


def test_one_seed_has_no_spread_and_says_so(tmp_path: Path) -> None:
    write_figures(tmp_path, "video", 0, 10)
    assert "0.1000 (one seed)" in page.render(tmp_path, 3)


def test_leave_one_out_has_a_row_for_each_choice_of_rows_to_learn(tmp_path: Path) -> None:
    write_figures(tmp_path, "video_train", 0, 10)
    write_figures(tmp_path, "video", 0, 12)
    rendered = page.render(tmp_path, 1)
    assert row_of(rendered, "| **served** | train |")[2] == "0.1000 (one seed)"
    assert row_of(rendered, "| **served** | train+validation |")[2] == "0.1200 (one seed)"


def test_a_peer_is_compared_on_the_same_rows_by_user_and_has_its_published_figures_beside_its_own(
    tmp_path: Path,
) -> None:
    write_figures(tmp_path, "video_train", 0, 10)
    write_peer(tmp_path, "lrurec", "train", 5, TESTED)
    rendered = page.render(tmp_path, 1)
    [_, _, recall, _, recall_lead, ndcg_lead, *published_figures] = row_of(rendered, "| LRURec | train |")
    assert recall == "0.0500 (one seed)"
    assert recall_lead.startswith("+0.0500 [+0.0")
    assert ndcg_lead.startswith("+0.0500 [+0.0")
    assert published_figures == ["0.1134", "0.0620"]
    assert "| LRURec | train+validation |" not in rendered
    assert row_of(rendered, "| SASRec | train |")[2:] == ["not measured", "", "", "", "0.1091", "0.0583"]


def test_a_peer_that_ranked_other_events_is_not_compared(tmp_path: Path) -> None:
    write_figures(tmp_path, "video_train", 0, 10)
    write_peer(tmp_path, "lrurec", "train", 5, RankedEvents(TESTED.user_ids, TESTED.item + 1))
    with pytest.raises(MeasurementFailed, match="were measured on different events: remove the files of one"):
        page.render(tmp_path, 1)


def test_what_a_part_adds_is_the_mean_over_random_seeds_with_an_interval_over_users(tmp_path: Path) -> None:
    for seed, hits in enumerate((20, 30)):
        write_figures(tmp_path, "diginetica", seed, hits, without={"encoder": 10})
    rendered = page.render(tmp_path, 2)
    part, trained_again, recall, _, added, _ = row_of(rendered, "| encoder |")
    assert (part, trained_again, recall) == ("encoder", "release", "0.1000 ± 0.0000")
    difference, interval = added.split(" ", 1)
    low, high = json.loads(interval.replace("+", ""))
    assert difference == "+0.1500"
    assert 0 < low < 0.15 < high


def test_sharing_is_held_against_each_seed_model_on_each_slice(tmp_path: Path) -> None:
    """Cold items are the first half of the events, where the hits are: a seed model with more of them is a loss."""
    write_figures(tmp_path, "diginetica", 0, 30, seeds={"weak": 10, "strong": 40})
    rendered = page.render(tmp_path, 1)
    assert row_of(rendered, "| weak | all |")[2:4] == ["100", "0.1000"]
    assert row_of(rendered, "| weak | all |")[-1] == row_of(rendered, "| weak | cold_items |")[-1] == "yes"
    assert row_of(rendered, "| weak | cold_items |")[2:4] == ["50", "0.2000"]
    assert row_of(rendered, "| strong | cold_items |")[-1] == "**no**"
    assert "-0.2000 [" in row_of(rendered, "| strong | cold_items |")[-2]


def test_a_strategy_is_compared_with_the_preset_on_the_same_events(tmp_path: Path) -> None:
    for seed in range(2):
        write_figures(tmp_path, "amazon_beauty", seed, 20)
        write_figures(tmp_path, "beauty_adapted", seed, 25)
    rendered = page.render(tmp_path, 2)
    of_beauty = rendered.split("## Other strategies")[1].split("### amazon_beauty\n")[1].split("###")[0]
    preset, preset_cold, adapted, cold = [line for line in of_beauty.splitlines() if line.startswith("| text_geometry")]
    assert preset.endswith("| |")
    assert preset_cold.startswith("| text_geometry | cold_items | 0.2000 ")
    assert "+0.0500 [" in adapted
    assert "| cold_items |" in cold
    assert "+0.1000 [" in cold, "half of the events, with all the hits"


def test_a_varied_placement_has_its_variety_and_what_it_costs_for_each_random_seed(tmp_path: Path) -> None:
    for seed, categories in enumerate((4.0, 6.0)):
        lead = {"difference": -0.01 * (seed + 1), "low": -0.04, "high": 0.02}
        figures = {
            "variety": {
                "for_you": {"categories": 3.0, "largest": 0.5, "divergence": 2.0},
                "calibration_5": {"categories": categories, "largest": 0.25, "divergence": 1.5},
            },
            "cost_of_variety": {"calibration_5": {"recall_at_20": lead, "ndcg_at_20": lead}},
        }
        (tmp_path / figures_file(VARIETY, seed)).write_bytes(msgspec.json.encode({"date": DAY, **figures}))
    rendered = page.render(tmp_path, 2)
    assert row_of(rendered, "| for you |")[1:] == ["3.0 ± 0.0", "0.500 ± 0.000", "2.00 ± 0.00", "", ""]
    _, categories_cell, _, _, recall, ndcg = row_of(rendered, "| calibration 5 |")
    assert categories_cell == "5.0 ± 1.4"
    assert recall == ndcg == "-0.0100 [-0.0400, +0.0200]; -0.0200 [-0.0400, +0.0200]"


def test_what_was_not_measured_is_not_made_up(tmp_path: Path) -> None:
    rendered = page.render(tmp_path, 3)
    assert rendered.count("not measured") >= len(published.LEAVE_ONE_OUT) + 4
    assert "served** | 0" not in rendered


def test_figures_say_on_which_day_they_were_measured(tmp_path: Path) -> None:
    write_figures(tmp_path, "diginetica", 0, 10)
    assert f"Measured on {DAY}." in page.render(tmp_path, 1)


def test_the_page_in_the_repository_is_the_one_that_its_figures_give(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its intervals are left out: all of them take minutes. To mend the page: `anabranch results --render`."""
    monkeypatch.setattr(paired_ranks, "paired_interval", lambda *gains: Interval(difference=0.0, low=0.0, high=0.0))
    models = Path(__file__).parents[3] / "models"
    written, rendered = (models / "RESULTS.md").read_text(), page.render(models / "results", 3)
    assert INTERVAL.sub("", written) == INTERVAL.sub("", rendered)


def test_figures_name_the_folder_of_benchmark_data_and_not_where_it_is(tmp_path: Path) -> None:
    figures = tmp_path / "video-0.json"
    figures.write_text(json.dumps({"data": [str(tmp_path / "data" / "video")], "seed": 0}))
    name_data(figures, ("video",), Places(tmp_path / "data", tmp_path, tmp_path))
    assert json.loads(figures.read_text()) == {"data": ["video"], "seed": 0}
    in_repository = [path.read_text() for path in (Path(__file__).parents[3] / "models" / "results").glob("*.json")]
    assert in_repository and not any('"/' in text for text in in_repository)


def test_what_was_measured_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, int]] = []
    monkeypatch.setattr(measurements, "_run", lambda measurement, *rest: ran.append((measurement.name, rest[-1])))
    write_figures(tmp_path, "video", 1, 10)
    measurements.measure(select(["video"]), Places(tmp_path, tmp_path, tmp_path), random_seeds=3, jobs=1)
    assert ran == [("video", 0), ("video", 2)]


def test_every_measurement_is_a_call_that_the_command_line_takes(tmp_path: Path) -> None:
    for measurement in MEASUREMENTS:
        arguments = measurement.arguments(Places(tmp_path, tmp_path, tmp_path), 0)
        called = CliRunner().invoke(app, ["--data-dir", str(tmp_path), *arguments])
        assert any(problem in called.output for problem in OF_THE_DATA), called.output


def test_a_measurement_names_only_measurements_to_be_compared_with() -> None:
    names = {measurement.name for measurement in MEASUREMENTS}
    assert {measurement.base for measurement in MEASUREMENTS} - {None} <= names


def write_weeks(folder: Path, way: str, seed: int, weeks: Sequence[int]) -> None:
    figures: dict[str, Any] = {
        "periods": [{"all": {"recall": {"20": hits / 100}, "mrr": {"20": hits / 200}}} for hits in weeks],
        "cost": [{"cpu_seconds": 2.0} for _ in weeks],
    }
    (folder / figures_file(f"weekly_{way}", seed)).write_text(json.dumps({"ways": {way: figures}}))


def test_the_ways_of_learning_a_week_are_compared_week_by_week_and_not_seed_by_seed(tmp_path: Path) -> None:
    """Of three weeks with three random seeds each there are three differences, not nine."""
    for seed in range(3):
        write_weeks(tmp_path, "shared", seed, (50 + seed, 60 + seed, 70 + seed))
        write_weeks(tmp_path, "retrained", seed, (40 + seed, 65 + seed, 60 + seed))
    rendered = page.render(tmp_path, 3)
    [_, lead, above, _, _] = row_of(rendered, "| shared - retrained |")
    assert above == "2 of 3"
    reach = 4.30265 * np.std([0.1, -0.05, 0.1], ddof=1) / 3**0.5  # Student's, two degrees of freedom
    assert lead == f"+0.0500 [{0.05 - reach:+.4f}, {0.05 + reach:+.4f}]"
    assert "shared - fine_tuned" not in rendered


def test_the_gain_of_a_re_share_is_shown_by_the_age_of_the_stale_release(tmp_path: Path) -> None:
    fresh, stale = (0.5, 0.6, 0.7), (None, 0.55, 0.6)
    periods = [
        {**recall_of(new), "stale": {} if old is None else {"1": recall_of(old)}}
        for new, old in zip(fresh, stale, strict=True)
    ]
    figures = {"ways": {"shared": {"periods": periods, "cost": [{"cpu_seconds": 2.0}] * 3}}}
    (tmp_path / figures_file("weekly_shared", 0)).write_text(json.dumps(figures))
    [age, weeks, of_stale, gain, _, _] = row_of(page.render(tmp_path, 1).split("## A re-share")[1], "| 1 |")
    assert (age, weeks, of_stale) == ("1", "2", "0.5750")
    assert gain.startswith("+0.0750 [")


def recall_of(recall: float) -> dict[str, Any]:
    return {"all": {"recall": {"20": recall}, "mrr": {"20": recall / 2}}}


def test_an_unknown_measurement_is_refused_with_those_known() -> None:
    with pytest.raises(UsageError, match="--only: no measurement music; there are diginetica, video_train, video"):
        select(["music"])


def test_data_with_time_stamps_is_measured_and_shown_by_the_name_of_its_folder(tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    shop.mkdir()
    with pytest.raises(UsageError, match=r"shop has none of events\.parquet, events\.csv"):
        TimedData.in_folder(shop)
    for name in ("events.csv", "items.csv"):
        (shop / name).touch()
    [split, *_] = select(["timed_shop"], [TimedData.in_folder(shop)])
    arguments = split.arguments(Places(tmp_path, tmp_path, tmp_path), 0)
    assert str(shop / "events.csv") in arguments
    write_figures(tmp_path, "timed_shop", 0, 30)
    path = tmp_path / figures_file("timed_shop", 0)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data": [str(shop / "events.csv")]}))
    assert "### shop" in page.render(tmp_path, 1)


def test_each_placement_is_compared_on_the_events_that_it_is_for(tmp_path: Path) -> None:
    """Popularity finds half as much as what was served."""
    ranks, user = {"served": hit(20), "popularity": hit(10)}, np.arange(EVENTS)
    repeat = user % 2 == 0
    halves = {name: mask for name, mask in (("repeat", repeat), ("new_to_user", ~repeat))}
    parts = {
        name: compare({ranker: r[mask] for ranker, r in ranks.items()}, user[mask]) for name, mask in halves.items()
    }
    whole = Prequential(
        overall=compare(ranks, user), releases={}, slices=parts, placements={"discover": parts["new_to_user"]}
    )
    figures = {"date": DAY, "prequential": prequential_as_json(whole)}
    (tmp_path / figures_file(PLACEMENTS, 0)).write_bytes(msgspec.json.encode(figures))
    rendered = page.render(tmp_path, 1)
    assert row_of(rendered, "| first placement, all events (100) |")[1:4] == ["**served**", *["0.2000 (one seed)"] * 2]
    lines = rendered.splitlines()
    discover = lines.index("| placement discover (50) | **served** | 0.2000 (one seed) | 0.2000 (one seed) | | |")
    assert lines[discover + 1].startswith("| | popularity | 0.1000 (one seed) | 0.1000 (one seed) | +0.1000 [+0.0")


def test_a_measurement_of_placements_has_them_in_its_settings() -> None:
    [measurement] = select([PLACEMENTS])
    name, value, command, *_ = measurement.arguments(Places(Path("d"), Path("f"), Path("s")), 0)
    assert (name, command) == ("--set", "evaluate")
    assert msgspec.json.decode(value.removeprefix("placements="), type=tuple[Placement, ...]) == EACH_CLASS
