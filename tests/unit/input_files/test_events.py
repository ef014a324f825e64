from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from anabranch.errors import InvalidRow, UsageError
from anabranch.input_files.events import read_events

CSV = "user_id,item_id,type,ts\nu1,i1,view,1500000000000\nu2,i2,purchase,1500000001000\n"


def write(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_csv_jsonl_and_parquet_give_the_same_events(tmp_path: Path) -> None:
    csv = write(tmp_path, "a.csv", CSV)
    jsonl = write(
        tmp_path,
        "a.jsonl",
        '{"user_id": "u1", "item_id": "i1", "type": "view", "ts": 1500000000000}\n\n'
        '{"user_id": "u2", "item_id": "i2", "type": "purchase", "ts": 1500000001000}\n',
    )
    columns = {
        "user_id": ["u1", "u2"],
        "item_id": ["i1", "i2"],
        "type": ["view", "purchase"],
        "ts": [datetime.fromtimestamp(1_500_000_000, UTC), datetime.fromtimestamp(1_500_000_001, UTC)],
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    events = list(read_events(csv))
    assert [event.item_id for event in events] == ["i1", "i2"]
    assert list(read_events(jsonl)) == events
    assert list(read_events(tmp_path / "a.parquet")) == events


def test_an_event_without_an_id_gets_the_same_one_at_every_replay(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", CSV)
    first, second = [[event.event_id for event in read_events(path)] for _ in range(2)]
    assert first == second
    assert len(set(first)) == 2


def test_two_of_the_same_thing_at_the_same_moment_are_two_events(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "user_id,item_id,ts\n" + "u,i,1500000000000\n" * 3)
    assert len({event.event_id for event in read_events(path)}) == 3


def test_an_event_keeps_the_id_it_has(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "event_id,user_id,item_id,ts\ne7,u,i,1500000000000\n")
    assert next(read_events(path)).event_id == "e7"


def test_numbers_become_ids_as_they_are_written(tmp_path: Path) -> None:
    pq.write_table(pa.table({"user_id": [1], "item_id": [2.0], "ts": [1_500_000_000_000]}), tmp_path / "a.parquet")
    event = next(read_events(tmp_path / "a.parquet"))
    assert (event.user_id, event.item_id, event.type) == ("1", "2", "purchase")


def test_a_search_has_a_query_instead_of_an_item(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "user_id,query,type,ts\nu,soup,search,1500000000000\n")
    assert next(read_events(path)).query == "soup"


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("u,i,view,yesterday", "ts 'yesterday' is not a time; give milliseconds"),
        ("u,i,view,1500000000", "looks like seconds"),
        ("u,i,view,", "ts is empty"),
        ("u,i,bought,1500000000000", r"Invalid enum value 'bought' - at `\$.type`"),
        (",i,view,1500000000000", "missing required field `user_id`"),
        ("u,,view,1500000000000", "needs `item_id`"),
    ],
)
def test_an_invalid_row_is_named_with_field_and_remedy(row: str, problem: str, tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", f"user_id,item_id,type,ts\nu,i,view,1500000000000\n{row}\n")
    with pytest.raises(InvalidRow, match=problem) as raised:
        list(read_events(path))
    assert raised.value.row == 2


def test_rows_out_of_time_are_refused_unless_sorted(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "user_id,item_id,ts\nu,b,1500000001000\nu,a,1500000000000\n")
    with pytest.raises(InvalidRow, match=r"row 2: ts .* pass --sort"):
        list(read_events(path))
    assert [event.item_id for event in read_events(path, sort=True)] == ["a", "b"]


def test_a_limit_stops_before_a_later_invalid_row(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", CSV + "u,i,view,never\n")
    assert len(list(read_events(path, limit=2))) == 2


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.csv", "user,item_id,ts\nu,i,1\n", "no column user_id; it has user, item_id, ts"),
        ("a.csv", "user_id,ts\nu,1500000000000\n", "neither a column item_id nor query"),
        ("a.txt", "", "Name it .parquet, .csv or .jsonl"),
        ("a.parquet", "not parquet", "cannot be read as parquet"),
        ("a.jsonl", "[1]\n", "row 1: not a JSON object"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_says_why(name: str, text: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=problem):
        list(read_events(write(tmp_path, name, text)))


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        list(read_events(tmp_path / "a.csv"))
