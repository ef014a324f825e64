"""Formats, compressions, encodings and folders: the same rows whatever form a file has."""

from __future__ import annotations

import gzip
import lzma
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from anabranch.errors import UsageError
from anabranch.input_files.events import EventFile, EventOptions
from tests.support.input_files import event_faults, events_of, items_of, write

CSV = "user_id,item_id,type,ts\nu1,i1,view,1500000000000\nu2,i2,purchase,1500000001000\n"
JSON_ROWS = (
    '{"user_id": "u1", "item_id": "i1", "type": "view", "ts": 1500000000000}',
    '{"user_id": "u2", "item_id": "i2", "type": "purchase", "ts": 1500000001000}',
)
FORMS = {
    "a.csv": CSV,
    "a.tsv": CSV.replace(",", "\t"),
    "semicolons.csv": CSV.replace(",", ";"),
    "windows.csv": CSV.replace("\n", "\r\n"),
    "empty-lines.csv": CSV.replace("\n", "\n\n"),
    "bom.csv": b"\xef\xbb\xbf" + CSV.encode(),
    "utf16.csv": CSV.encode("utf-16"),
    "blanks-in-header.csv": CSV.replace("user_id,item_id", "user_id, item_id"),
    "a.jsonl": "\n\n".join(JSON_ROWS),
    "bom.jsonl": b"\xef\xbb\xbf" + "\n".join(JSON_ROWS).encode(),
    "array.json": f"[{','.join(JSON_ROWS)}]",
    "array.jsonl": f"[{','.join(JSON_ROWS)}]",
    "lines.json": "\n".join(JSON_ROWS),
    "a.csv.gz": gzip.compress(CSV.encode()),
    "a.csv.xz": lzma.compress(CSV.encode()),
    "a.csv.zst": bytes(pa.compress(CSV.encode(), "zstd", asbytes=True)),
    "unpacked-by-a-browser.csv.gz": CSV,
    "renamed.csv": gzip.compress(CSV.encode()),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_events(name: str, tmp_path: Path) -> None:
    expected = events_of(write(tmp_path, "expected.csv", CSV))
    assert [event.item_id for event in expected] == ["i1", "i2"]
    assert events_of(write(tmp_path, name, FORMS[name])) == expected


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_parquet_gives_the_same_events(unit: str, tmp_path: Path) -> None:
    table = pa.table(
        {
            "user_id": pa.array([b"u1", b"u2"]),  # as Spark and Hive write texts
            "item_id": ["i1", "i2"],
            "type": pa.array(["view", "purchase"]).dictionary_encode(),
            "ts": pa.array(
                [datetime.fromtimestamp(1_500_000_000, UTC), datetime.fromtimestamp(1_500_000_001, UTC)],
                pa.timestamp(unit, "UTC"),
            ),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert events_of(tmp_path / "a.parquet") == events_of(write(tmp_path, "expected.csv", CSV))


def test_a_folder_of_parts_is_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    header, first, second = CSV.splitlines()
    write(tmp_path, "events/part-00001.csv", f"{header}\n{second}\n")
    write(tmp_path, "events/part-00000.csv", f"{header}\n{first}\n")
    write(tmp_path, "events/_SUCCESS", "")
    write(tmp_path, "events/.part-00000.csv.crc", "checksum")
    assert [event.item_id for event in events_of(tmp_path / "events")] == ["i1", "i2"]


def test_empty_parts_of_a_folder_are_passed_over(tmp_path: Path) -> None:
    header, first, second = CSV.splitlines()
    for name, content in enumerate(
        ["", f"{header}\n", f"{header}\n{first}\n", f"{header}\n", f"{header}\n{second}\n", ""]
    ):
        write(tmp_path, f"events/part-{name}.csv", content)
    assert [event.item_id for event in events_of(tmp_path / "events")] == ["i1", "i2"]


def test_parquet_without_rows_shows_its_header(tmp_path: Path) -> None:
    schema = pa.schema([("user_id", pa.string()), ("item_id", pa.string()), ("ts", pa.int64())])
    pq.write_table(schema.empty_table(), tmp_path / "a.parquet")
    with pytest.raises(UsageError, match=r"a\.parquet holds no rows, only the header user_id, item_id, ts"):
        events_of(tmp_path / "a.parquet")
    (tmp_path / "folder").mkdir()
    for part in range(2):
        pq.write_table(schema.empty_table(), tmp_path / "folder" / f"{part}.parquet")
    with pytest.raises(UsageError, match="folder holds no rows, only the header user_id, item_id, ts"):
        events_of(tmp_path / "folder")


def test_files_of_a_folder_with_other_columns_are_no_parts_of_one_table(tmp_path: Path) -> None:
    write(tmp_path, "shop/events.csv", CSV)
    write(tmp_path, "shop/items.csv", "item_id,title\ni1,Mug\n")
    with pytest.raises(UsageError, match=r"items.csv has columns that the files before it do not have: title"):
        events_of(tmp_path / "shop")


def test_a_row_with_too_many_or_too_few_cells_is_a_fault_and_the_next_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "item_id,title\n1,Pot, small\n2\n3,Pan\n")
    from anabranch.input_files.faults import RowFault
    from anabranch.input_files.items import ItemFile

    read = list(ItemFile.open(path).read())
    assert [str(fault).split(";")[0] for fault in read if isinstance(fault, RowFault)] == [
        "a.csv, row 1: 3 cells, but the header has 2",
        "a.csv, row 2: 1 cells, but the header has 2",
    ]
    assert len(read) == 3


def test_a_quote_that_is_never_closed_is_a_fault_of_the_row_that_opens_it(tmp_path: Path) -> None:
    rows = 'u1,i1,1500000000000\nu1,"24 inch,1500000000001\nu1,i3,1500000000002\n'
    (fault,) = event_faults(write(tmp_path, "a.csv", f"user_id,item_id,ts\n{rows}"))
    assert fault.startswith("a.csv, row 2: a quote is opened and never closed")


def test_text_in_another_encoding_needs_its_name(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "item_id,title\n1,Mug\n2,Café\n".encode("cp1252"))
    with pytest.raises(UsageError, match=r"line 3: byte 0xe9 is not utf-8; .* --encoding cp1252"):
        items_of(path)
    from anabranch.input_files.items import ItemFile

    titles = [item.title for item in ItemFile.open(path, encoding="cp1252").read()]  # type: ignore[union-attr]
    assert titles == ["Mug", "Café"]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.xls", "", "unknown file format. Give it one of the endings .csv"),
        ("a.parquet", "not parquet", "cannot be read as parquet"),
        ("a.json", "[1, 2", "is not a JSON array of objects"),
        ("a.csv.gz", gzip.compress(CSV.encode(), mtime=0)[:-9], "cannot be read"),
        ("a.csv", "user_id,user_id,ts\n", "has the column user_id more than once"),
        ("a.csv", "", "holds no rows"),
        ("a.csv", "user_id,item_id,ts\n", "a.csv holds no rows, only the header user_id, item_id, ts"),
        ("a.json", " \n", "holds no rows"),
        ("a.json", "[]", "holds no rows"),
        ("a.jsonl", "", "holds no rows"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(name: str, content: str | bytes, problem: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=problem):
        events_of(write(tmp_path, name, content))


def test_a_file_that_is_not_there_and_an_empty_folder_say_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such file"):
        events_of(tmp_path / "a.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="the folder holds no data files"):
        events_of(tmp_path / "empty")


@pytest.mark.parametrize(("line", "problem"), [("[1]", "not a JSON object"), ("{", "not a JSON object")])
def test_a_line_that_is_no_object_is_a_fault(line: str, problem: str, tmp_path: Path) -> None:
    (fault,) = event_faults(write(tmp_path, "a.jsonl", "\n".join([*JSON_ROWS, line])))
    assert fault.startswith(f"a.jsonl, row 3: {problem}")


def test_how_a_file_is_read_is_said(tmp_path: Path) -> None:
    file = EventFile.open(write(tmp_path, "a.csv", CSV.replace(",", ";")), EventOptions())
    assert file.notes()[0] == "CSV separated by semicolons, utf-8"
