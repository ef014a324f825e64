from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from anabranch.cli.main import app


@pytest.fixture(autouse=True)
def _process_is_left_as_it_was() -> Iterator[None]:
    """The command sets a signal's handler and a logger's level for its process, which is that of the tests here."""
    handler, level = signal.getsignal(signal.SIGTERM), logging.getLogger("kafka").level
    yield
    signal.signal(signal.SIGTERM, handler)
    logging.getLogger("kafka").setLevel(level)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--households", "5"], "--households is for the purchases of households"),
        (["--reshare-every", "2"], "--events FILE has --history-share and --reshares"),
        (["--columns", "user_id=who"], "there is no column who"),
        (["--columns", "nonsense=visitorid"], "there is no field nonsense"),
        (["--types", "addtocart=nonsense"], "--types takes WORD=TYPE pairs"),
    ],
)
def test_wrong_options_for_a_file_end_before_anything_is_started(
    tmp_path: Path, options: list[str], reason: str
) -> None:
    events = tmp_path / "events.csv"
    events.write_text("visitorid,itemid,timestamp,event\n1,2,1700000000,view\n")
    result = CliRunner().invoke(app, ["demo", "--events", str(events), "--data-dir", str(tmp_path / "demo"), *options])
    assert result.exit_code == 2
    assert reason in result.stderr
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize("option", ["--items=items.csv", "--reshares=3", "--skip-faulty", "--type=view"])
def test_options_of_files_are_refused_for_the_purchases_of_households(tmp_path: Path, option: str) -> None:
    result = CliRunner().invoke(app, ["demo", "--data-dir", str(tmp_path / "demo"), option])
    assert result.exit_code == 2
    assert f"{option.partition('=')[0]} is for --events FILE" in result.stderr


def test_a_faulty_file_ends_the_demo_before_anything_is_started_with_the_row_and_the_remedy(tmp_path: Path) -> None:
    events = tmp_path / "events.csv"
    events.write_text("visitorid,itemid,timestamp,event\n1,2,1700000000,view\n1,,1700000001,view\n")
    result = CliRunner().invoke(app, ["demo", "--events", str(events), "--data-dir", str(tmp_path / "demo")])
    assert result.exit_code == 2
    assert "events.csv, row 2: a `view` event needs `item_id`" in result.stderr
    assert "--skip-faulty" in result.stderr
    assert not (tmp_path / "demo").exists()
