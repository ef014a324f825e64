"""What is said of files before anything is published."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from anabranch.cli.main import app
from anabranch.input_files.check import EventCheck, without_faults
from anabranch.input_files.events import EventFile, EventOptions
from anabranch.input_files.faults import FaultyFile
from tests.support.input_files import write

EVENTS = "user_id,item_id,type,ts\n" + "".join(
    f"u{n % 3},i{n},{'view' if n % 2 else 'purchase'},{1_500_000_000_000 + n}\n" for n in range(10)
)
ITEMS = "item_id,title\n" + "".join(f"i{n},Item {n}\n" for n in range(8))
BAD_ROW = "u1,i1,view,never\n"


def checked(path: Path) -> EventCheck:
    return EventCheck.of(EventFile.open(path, EventOptions()).read())


def test_events_are_counted(tmp_path: Path) -> None:
    check = checked(write(tmp_path, "a.csv", EVENTS + EVENTS.splitlines()[1]))
    assert check.lines() == [
        "11 events: 6 purchase, 5 view",
        "3 users, 10 items",
        "from 2017-07-14T02:40:00Z to 2017-07-14T02:40:00Z",
        "not in order of time: pass --sort to `replay`",
        "1 event with the id of an earlier one, which rankers ignore",
    ]
    assert check.events_without_item({"i0", "i1"}) == 8


def test_the_id_of_a_file_is_that_of_its_events(tmp_path: Path) -> None:
    plain, semicolons = write(tmp_path, "a.csv", EVENTS), write(tmp_path, "b.csv", EVENTS.replace(",", ";"))
    assert checked(plain).file_id == checked(semicolons).file_id
    assert checked(write(tmp_path, "c.csv", EVENTS + "u,i,view,1600000000000\n")).file_id != checked(plain).file_id


def test_ten_faults_are_shown_and_the_others_counted(tmp_path: Path) -> None:
    check = checked(write(tmp_path, "a.csv", EVENTS + BAD_ROW * 12))
    with pytest.raises(FaultyFile, match=r"12 rows of a\.csv cannot be read") as raised:
        check.faults.require_none("a.csv")
    assert len(raised.value.faults) == 10
    assert "and 2 more" in str(raised.value)
    assert str(raised.value).endswith("Correct these rows, or leave them out with --skip-faulty")


def test_skipped_rows_go_to_a_file_with_the_reasons(tmp_path: Path) -> None:
    file = EventFile.open(write(tmp_path, "a.csv", EVENTS + BAD_ROW), EventOptions())
    skipped = tmp_path / "skipped" / "a.jsonl"
    assert len(list(without_faults(file.read(), skipped))) == 10
    (entry,) = map(msgspec.json.decode, skipped.read_bytes().splitlines())
    assert (entry["file"], entry["row"]) == ("a.csv", 11)
    assert entry["reason"].startswith("ts 'never' is not a time")


def test_no_file_is_written_where_nothing_is_skipped(tmp_path: Path) -> None:
    file = EventFile.open(write(tmp_path, "a.csv", EVENTS), EventOptions())
    assert len(list(without_faults(file.read(), tmp_path / "skipped.jsonl"))) == 10
    assert not (tmp_path / "skipped.jsonl").exists()


# --- anabranch check --------------------------------------------------------------------------------------------------


def check_output(*arguments: str) -> tuple[int, list[str]]:
    result = CliRunner().invoke(app, ["check", *arguments])
    return result.exit_code, result.output.splitlines()


def test_files_are_told_apart_by_their_columns_and_joined(tmp_path: Path) -> None:
    events, items = write(tmp_path, "events.csv", EVENTS), write(tmp_path, "items.csv", ITEMS)
    code, lines = check_output(str(items), str(events))
    assert code == 0
    assert "  8 items, 8 available" in lines
    assert "  10 events: 5 purchase, 5 view" in lines
    assert lines.count("  every row can be read") == 2
    assert lines[-1] == f"{events}: 2 of 10 events name an item that is not in the catalogue"


def test_events_that_join_with_nothing_are_loud(tmp_path: Path) -> None:
    events = write(tmp_path, "events.csv", re.sub(r",i(\d)", r",0\1", EVENTS))
    _, lines = check_output(str(events), str(write(tmp_path, "items.csv", ITEMS)))
    assert lines[-1] == f"{events}: NO event names an item of the catalogue; are the ids written in the same way?"


def test_faults_are_listed_and_the_exit_code_is_1(tmp_path: Path) -> None:
    code, lines = check_output(str(write(tmp_path, "events.csv", EVENTS + BAD_ROW)))
    assert code == 1
    assert "  1 row cannot be read:" in lines
    assert any(line.strip().startswith("events.csv, row 11: ts 'never' is not a time") for line in lines)


def test_a_mapping_applies_to_the_files_that_have_its_columns(tmp_path: Path) -> None:
    events = write(tmp_path, "events.csv", EVENTS.replace("item_id", "thing"))
    code, lines = check_output(
        str(events), str(write(tmp_path, "items.csv", ITEMS)), "--columns", "item_id=thing,title=title"
    )
    assert code == 0
    assert "  item_id is read from the column thing" in lines


def test_a_mapping_to_a_column_of_no_file_is_an_error(tmp_path: Path) -> None:
    code, lines = check_output(str(write(tmp_path, "events.csv", EVENTS)), "--columns", "item_id=thing")
    assert code == 2
    assert "there is no column thing" in "\n".join(lines)
