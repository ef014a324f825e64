"""Files as people have them: exports of spreadsheets, of Spark and of tag managers. Each gives the right value."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from typer.testing import CliRunner

from anabranch.cli.main import app
from anabranch.errors import UsageError
from anabranch.input_files.events import EventFile, EventOptions
from anabranch.input_files.items import ItemFile
from anabranch.messages import Item
from tests.support.input_files import event_faults, events_of, item_faults, items_of, write

TEN = 1_614_592_800_000
"""2021-03-01T10:00:00Z"""
EVENT_HEADER = "user_id,item_id,type,ts\n"


def ids_of(path: Path, **options: Any) -> list[tuple[str, str | None]]:
    return [(event.user_id, event.item_id) for event in events_of(path, **options)]


def run(*arguments: str | Path) -> tuple[int, str]:
    """Exit code and output of a command."""
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def write_parquet(folder: Path, columns: Mapping[str, Any], name: str = "events.parquet") -> Path:
    parquet.write_table(pa.table(dict(columns)), folder / name)
    return folder / name


# --- ids --------------------------------------------------------------------------------------------------------------


def test_float_ids_of_events_join_with_the_whole_ones_of_the_catalogue(tmp_path: Path) -> None:
    csv = write(tmp_path, "events.csv", f"{EVENT_HEADER}13758.0,1001.0,view,{TEN}\n13758.0,1002.0,purchase,{TEN + 1}\n")
    jsonl = write(tmp_path, "events.jsonl", f'{{"user_id":13758.0,"item_id":1001.0,"type":"view","ts":{TEN}}}\n')
    items = write(tmp_path, "items.csv", "item_id,title\n1001,Red umbrella\n1002,Blue mug\n")
    assert ids_of(csv) == [("13758", "1001"), ("13758", "1002")]
    assert ids_of(jsonl) == [("13758", "1001")]
    code, output = run("check", csv, jsonl, items)
    assert code == 0
    assert output.count("every event names an item of the catalogue") == 2


def test_padded_ids_are_faults_with_row_and_remedy(tmp_path: Path) -> None:
    items = write(tmp_path, "items.csv", "item_id,title\nA100      ,Coat\nA200,Hat\n")
    assert item_faults(items) == [
        "items.csv, row 1: item_id 'A100      ' begins or ends with a blank; remove it, since it would be another id"
    ]
    events = write(tmp_path, "events.csv", "user_id, item_id, type, ts\nu1, A100, view, 2021-03-01T10:00:00Z\n")
    assert event_faults(events) == [
        "events.csv, row 1: item_id ' A100' begins or ends with a blank; remove it, since it would be another id"
    ]


def test_binary_strings_in_parquet_are_text(tmp_path: Path) -> None:
    columns = {"user_id": pa.array([b"u1"]), "item_id": pa.array([b"1001"]), "ts": pa.array([TEN])}
    typed = events_of(write_parquet(tmp_path, columns | {"type": pa.array([b"view"])}))
    assert [(event.user_id, event.item_id, event.type) for event in typed] == [("u1", "1001", "view")]
    assert ids_of(write_parquet(tmp_path, columns)) == [("u1", "1001")]
    items = write_parquet(tmp_path, {"item_id": pa.array([b"1001"]), "title": ["Mug"]}, "items.parquet")
    assert items_of(items) == [Item(item_id="1001", title="Mug")]


@pytest.mark.parametrize("word", ["NULL", r"\N", "nan", "None"])
def test_a_word_for_no_value_is_no_user(word: str, tmp_path: Path) -> None:
    path = write(tmp_path, "events.csv", f"{EVENT_HEADER}{word},1001,view,{TEN}\n")
    (fault,) = event_faults(path)
    assert fault == (
        f"events.csv, row 1: user_id {word!r} stands for no value; leave the cell empty, or leave the row out"
    )


def test_an_anonymous_row_is_a_fault_unless_another_column_names_its_user(tmp_path: Path) -> None:
    row = '{{"user_id":{},"anonymousId":"{}","type":"view","item_id":"1001","ts":"2021-03-01T10:00:00Z"}}\n'
    path = write(tmp_path, "events.jsonl", row.format('"u1"', "a-1") + row.format("null", "a-2"))
    assert event_faults(path) == ["events.jsonl, row 2: user_id is empty"]
    assert ids_of(path, columns="user_id=user_id|anonymousId") == [("u1", "1001"), ("a-2", "1001")]


# --- rows -------------------------------------------------------------------------------------------------------------


def test_an_open_quote_is_a_fault_before_anything_is_published(tmp_path: Path) -> None:
    rows = '1,Garden hose,19.90\n2,"24 inch monitor,199.00\n3,Keyboard,29.00\n4,Mouse,9.00\n'
    path = write(tmp_path, "items.csv", f"item_id,title,price\n{rows}")
    code, output = run("--bootstrap-servers", "127.0.0.1:1", "catalogue", path)
    assert code == 2, "and no broker is needed to know it"
    assert "items.csv, row 2: a quote is opened and never closed" in output
    assert "Nothing was published." in output


def test_a_bad_row_among_thousands_is_named_before_anything_is_published(tmp_path: Path) -> None:
    rows = [f"u{n % 20},{1000 + n % 50},view,{TEN + 1000 * n}\n" for n in range(3_010)]
    rows.insert(3_000, f"u3,1001,compare,{TEN + 3_000_000}\n")
    path = write(tmp_path, "events.csv", EVENT_HEADER + "".join(rows))
    code, output = run("--bootstrap-servers", "127.0.0.1:1", "replay", path)
    assert code == 2
    assert "events.csv, row 3001: type 'compare' is none of view, cart, purchase, search" in output
    assert len(events_of(path, types="compare=")) == 3_010


def test_a_return_is_no_purchase(tmp_path: Path) -> None:
    rows = "16321,22087,2009-12-01 10:33:00,-12,C489449\n16321,22087,2009-12-01 10:36:00,12,489450\n"
    path = write(tmp_path, "events.csv", f"user_id,item_id,ts,quantity,invoice\n{rows}")
    assert [(event.type, event.ts) for event in events_of(path)] == [
        ("refund", 1_259_663_580_000),
        ("purchase", 1_259_663_760_000),
    ]
    code, output = run("check", path)
    assert code == 0
    assert "quantity below 0: read as refund (1 row)" in output
    assert "columns not read: invoice" in output


# --- items ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("price", ['{"amount":"19.90","currency_code":"EUR"}', "[9.99,19.99]"])
def test_a_price_that_is_an_object_or_a_list_is_a_fault_that_names_the_field(price: str, tmp_path: Path) -> None:
    path = write(tmp_path, "items.jsonl", f'{{"item_id":"1001","title":"Red umbrella","price":{price}}}\n')
    (fault,) = item_faults(path)
    assert fault.startswith("items.jsonl, row 1: price is a")
    assert fault.endswith("and a price is a number; say which is meant, such as price=price.amount")


def test_nested_categories_and_lists_of_texts_are_read(tmp_path: Path) -> None:
    rows = (
        '{"item_id":"X","title":"Steel kettle","category":[["Home & Kitchen","Kettles"]],'
        '"description":["Boils fast.","Keeps warm."],"brand":"Acme","price":25.0}\n'
        '{"item_id":"Y","title":["Steel kettle","blue"],"category":"[\\"Home & Kitchen\\", \\"Kettles\\"]",'
        '"description":{"en":"Boils fast."}}\n'
        '{"item_id":"Z","title":"","brand":"Acme"}\n'
    )
    path = write(tmp_path, "items.jsonl", rows)
    (fault,) = item_faults(path)
    assert fault.startswith("items.jsonl, row 2: description is an object with en; say which is meant")
    nested = "description=description.en"
    assert run("check", path, "--columns", nested)[0] == 0
    second = list(ItemFile.open(path, {"description": ("description.en",)}).read())[1]
    assert isinstance(second, Item)
    assert (second.title, second.category) == ("Steel kettle blue", ["Home & Kitchen", "Kettles"])
    first, _, third = ItemFile.open(path).read()
    assert isinstance(first, Item) and isinstance(third, Item)
    assert (first.category, first.description) == (["Home & Kitchen", "Kettles"], "Boils fast. Keeps warm.")
    assert (third.title, third.brand) == ("", "Acme")


@pytest.mark.parametrize(
    ("content", "available"),
    [
        ("item_id,title,available\n1,Mug,in stock\n", True),
        ("item_id,title,availability\n1,Mug,out of stock\n", False),
        ("item_id,title,available\n1,Mug,t\n", True),
    ],
)
def test_whether_an_item_is_available_is_read_in_shops_words(content: str, available: bool, tmp_path: Path) -> None:
    assert items_of(write(tmp_path, "items.csv", content)) == [Item(item_id="1", title="Mug", available=available)]


# --- forms of files ---------------------------------------------------------------------------------------------------


def test_a_folder_as_spark_writes_it_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "events.parquet"
    folder.mkdir()
    write(folder, "_SUCCESS", "")
    with pytest.raises(UsageError, match="the folder holds no data files"):
        events_of(folder)
    for part in range(2):
        columns = {"user_id": [f"u{part}"], "item_id": ["1001"], "ts": [TEN + part]}
        write_parquet(folder, columns, f"part-0000{part}-c000.snappy.parquet")
    assert ids_of(folder) == [("u0", "1001"), ("u1", "1001")]


@pytest.mark.parametrize("name", ["events.csv.gz", "renamed.csv"])
def test_a_packed_file_is_read_whatever_it_is_called(name: str, tmp_path: Path) -> None:
    packed = gzip.compress(f"{EVENT_HEADER}u0,1000,view,{TEN}\n".encode())
    assert ids_of(write(tmp_path, name, packed)) == [("u0", "1000")]


@pytest.mark.parametrize("form", ["\ufeff{}\r\n", "[{}]"])
def test_json_lines_with_a_mark_and_arrays_are_read(form: str, tmp_path: Path) -> None:
    row = f'{{"user_id":"u1","item_id":"1001","type":"view","ts":{TEN}}}'
    assert ids_of(write(tmp_path, "events.jsonl", form.replace("{}", row))) == [("u1", "1001")]


def test_what_spreadsheets_write_is_read(tmp_path: Path) -> None:
    rows = 'item_id;title;price;brand\r\n1001;Café crème;"12,50";Maison\r\n'
    expected = [Item(item_id="1001", title="Café crème", price=12.5, brand="Maison")]
    assert items_of(write(tmp_path, "utf8.csv", rows)) == expected
    assert items_of(write(tmp_path, "utf16.csv", rows.encode("utf-16"))) == expected
    dollars = '\ufeffitem_id,title,price\r\n0001001,Mug,"$1,299.00"\r\n'
    assert items_of(write(tmp_path, "dollar.csv", dollars)) == [Item(item_id="0001001", title="Mug", price=1299.0)]
    semicolons = f"user_id;item_id;type;ts\nu1;1001;view;{TEN}\n"
    assert ids_of(write(tmp_path, "semicolons.csv", semicolons)) == [("u1", "1001")]


def test_the_encoding_of_old_spreadsheets_has_to_be_named(tmp_path: Path) -> None:
    path = write(tmp_path, "cp1252.csv", "item_id,title,price\r\n1001,Café,12.50\r\n".encode("cp1252"))
    code, output = run("check", path)
    assert code == 2
    assert "line 2: byte 0xe9 is not utf-8; spreadsheets often write --encoding cp1252" in output
    assert run("check", path, "--encoding", "cp1252")[0] == 0


# --- times ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "ms", "form"),
    [
        ("2019-10-01 00:00:00 UTC", 1_569_888_000_000, "ISO 8601 with UTC"),
        ("1614592800.123", TEN + 123, "seconds since 1970"),
        ("1614592800", TEN, "seconds since 1970"),
        ("1614592800000.0", TEN, "milliseconds since 1970"),
        ("1614592800123456", TEN + 123, "microseconds since 1970"),
        ("1614592800123456789", TEN + 123, "nanoseconds since 1970"),
        ("20210301", TEN - 36_000_000, "dates, taken as midnight UTC"),
        ("2021-03-01T10:00:00.123456789Z", TEN + 123, "times with a time zone"),
        ("2021-03-01 10:00:00+0000", TEN, "times with a time zone"),
        ("2021-03-28 02:30:00", 1_616_898_600_000, "times without a time zone, taken as UTC"),
    ],
)
def test_a_time_is_read_and_its_form_said_back(written: str, ms: int, form: str, tmp_path: Path) -> None:
    file = EventFile.open(write(tmp_path, "events.csv", f"{EVENT_HEADER}u1,1001,view,{written}\n"), EventOptions())
    (event,) = file.read()
    assert getattr(event, "ts", event) == ms
    assert f"ts: {form} (1 row)" in file.notes()


@pytest.mark.parametrize(
    ("written", "looks_like"),
    [
        ("0", "is not a time after 1973"),
        ("-1", "is not a time after 1973"),
        ("01/03/2021 10:00", "does not say which number is the day and which is the month"),
        ("1.6145928E+12", "is a number that a spreadsheet has rounded"),
        ("44256.4166", "looks like a day number of a spreadsheet"),
        ("Mon Mar 01 10:00:00 UTC 2021", "is a date in words"),
    ],
)
def test_a_time_that_is_refused_says_what_it_looks_like(written: str, looks_like: str, tmp_path: Path) -> None:
    (fault,) = event_faults(write(tmp_path, "events.csv", f"{EVENT_HEADER}u1,1001,view,{written}\n"))
    assert fault.startswith("events.csv, row 1: ts ")
    assert looks_like in fault


NEW_YORK = datetime(2021, 3, 1, 5, tzinfo=ZoneInfo("America/New_York"))


@pytest.mark.parametrize(
    ("times", "ms"),
    [
        (pa.array([date(2021, 3, 1)]), TEN - 36_000_000),
        (pa.array([1614592800.0]), TEN),
        (pa.array([TEN * 1_000_000 + 123_456_789], pa.timestamp("ns")), TEN + 123),
        (pa.array([NEW_YORK], pa.timestamp("us", "America/New_York")), TEN),
        (pa.array([datetime(2021, 3, 1, 10, tzinfo=UTC)], pa.timestamp("ms", "UTC")), TEN),
    ],
    ids=lambda value: str(getattr(value, "type", "")),
)
def test_every_type_of_times_in_parquet_is_read(times: pa.Array, ms: int, tmp_path: Path) -> None:
    items = pa.array(["1001"]).dictionary_encode()
    (event,) = events_of(write_parquet(tmp_path, {"user_id": ["u1"], "item_id": items, "ts": times}))
    assert (event.item_id, event.ts) == ("1001", ms)


def test_nanoseconds_are_read_where_pandas_is_not_installed(tmp_path: Path) -> None:
    """pyarrow needs it to give them to Python."""
    times = pa.array([TEN * 1_000_000 + 123_456_789], pa.timestamp("ns"))
    path = write_parquet(tmp_path, {"user_id": ["u1"], "item_id": ["1001"], "ts": times})
    program = f"""
import sys
sys.modules["pandas"] = None
from pathlib import Path
from anabranch.input_files.events import EventFile
(event,) = EventFile.open(Path({str(path)!r})).read()
print(event.ts)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) == TEN + 123


def test_decimal_ids_of_a_database_are_whole_numbers(tmp_path: Path) -> None:
    columns = {"user_id": ["u1"], "item_id": pa.array([Decimal("1001.00")]), "ts": [TEN]}
    assert ids_of(write_parquet(tmp_path, columns)) == [("u1", "1001")]


def test_an_empty_time_in_parquet_is_a_fault_and_no_rows_are_an_error(tmp_path: Path) -> None:
    columns = {"user_id": ["u1"], "item_id": ["1001"], "ts": pa.array([None], pa.timestamp("ms"))}
    (fault,) = event_faults(write_parquet(tmp_path, columns))
    assert fault.startswith("events.parquet, row 1: ts is empty; give milliseconds since 1970 or ISO 8601")
    empty = write_parquet(tmp_path, {name: pa.array([], pa.string()) for name in ("user_id", "item_id", "ts")})
    code, output = run("check", empty)
    assert code == 2
    assert "holds no rows, only the header user_id, item_id, ts" in output
