"""Every sharing strategy by its name on the command line, on the data that it is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from anabranch.cli.main import app
from models.pipeline.presets import STRATEGIES
from tests.support.data_folders import Rows, write_folder
from tests.support.input_files import write
from tests.support.text_models import write_text_model

EVERY = ",".join(STRATEGIES)
ITEMS = 12
START, MINUTE_MS = 1_600_000_000_000, 60_000


@pytest.fixture(scope="module")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_model(tmp_path_factory.mktemp("text"), ["thing", *map(str, range(ITEMS))])


def measured(folder: Path, text_model: Path, *options: str | Path) -> dict[str, Any]:
    """What the strategies measured in `anabranch evaluate` with all of them."""
    common = ("--strategies", EVERY, "--text-model", text_model, "--threads", "1", "--json", folder / "figures.json")
    arguments = map(str, ("--data-dir", folder / "work", "evaluate", *common, *options))
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    figures: dict[str, Any] = msgspec.json.decode((folder / "figures.json").read_bytes())
    assert figures["strategy"]["name"] == "+".join(STRATEGIES)
    return figures["measured"]  # type: ignore[no-any-return]


def domain(folder: Path, random_seed: int) -> Path:
    """400 users, of whom each goes through 8 of the items in order."""
    begin = np.random.default_rng(random_seed).integers(ITEMS, size=400)

    def rows(first: int, last: int) -> Rows:
        return [
            (user, place, int(begin[user] + place) % ITEMS)
            for user in range(len(begin))
            for place in range(first, last)
        ]

    items = [{"item_id": n, "title": f"thing {n}", "brand": None, "category": None} for n in range(ITEMS)]
    return write_folder(folder, {"train": rows(0, 6), "val": rows(6, 7), "test": rows(7, 8)}, items)


def test_several_folders_are_domains_that_are_merged_and_distilled(tmp_path: Path, text_model: Path) -> None:
    folders = [domain(tmp_path / name, number) for number, name in enumerate(("books", "games"))]
    options = ("--protocol", "leave-one-out", "--data", folders[0], "--data", folders[1])
    found = measured(tmp_path, text_model, *options)
    assert found["merging_specialists"] == 2
    assert found["adapted_domains"] == 2
    assert {"merging_domain_1", "merging_domain_2", "skill_co_visit", "loss_rank_distillation"} <= set(found)
    assert "loss_multi_task" not in found, "there is one event type"


def test_event_types_are_merged_and_have_a_task_each(tmp_path: Path, text_model: Path) -> None:
    types = ("view", "view", "purchase")
    events = "user_id,item_id,type,ts\n" + "".join(
        f"u{n % 100},i{(n // 100 + n) % ITEMS},{types[n // 100 % 3]},{START + n * MINUTE_MS}\n" for n in range(9000)
    )
    catalogue = "item_id,title\n" + "".join(f"i{n},thing {n}\n" for n in range(ITEMS))
    files = ("--data", write(tmp_path, "events.csv", events), "--items", write(tmp_path, "items.csv", catalogue))
    found = measured(tmp_path, text_model, "--protocol", "time-split", "--kind", "baskets", *files)
    assert found["merging_specialists"] == 2
    assert {"merging_view", "merging_purchase", "multi_task_view", "loss_multi_task"} <= set(found)
    assert "adapted_domains" in found and not found["adapted_domains"], "there is one domain"
