"""Events of a file: ids, types, order, and faults that name row, column and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from anabranch.errors import UsageError
from anabranch.input_files.events import FILE_TYPES, EventFile, EventOptions, parse_types
from anabranch.input_files.faults import RowFault
from anabranch.own_event_types import OwnEventTypes
from tests.support.input_files import event_faults, events_of, write

CSV = "user_id,item_id,type,ts\nu1,i1,view,1500000000000\nu2,i2,purchase,1500000001000\n"


def test_an_event_without_an_id_gets_the_same_one_at_every_read(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", CSV)
    first, second = [[event.event_id for event in events_of(path)] for _ in range(2)]
    assert first == second
    assert len(set(first)) == 2


@pytest.mark.parametrize("order", ["any", "required", "sorted"])
def test_two_of_the_same_thing_at_the_same_time_are_two_events(order: str, tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "user_id,item_id,ts\n" + "u,i,1500000000000\n" * 3)
    assert len({event.event_id for event in events_of(path, order)}) == 3  # type: ignore[arg-type]


def test_equal_rows_apart_in_an_unsorted_file_are_two_events(tmp_path: Path) -> None:
    rows = "u,i,1500000000000\nu,i,1500000001000\nu,i,1500000000000\n"
    path = write(tmp_path, "a.csv", f"user_id,item_id,ts\n{rows}")
    assert len({event.event_id for event in events_of(path, "sorted")}) == 3


def test_an_event_keeps_the_id_it_has(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "event_id,user_id,item_id,ts\ne7,u,i,1500000000000\n")
    assert events_of(path)[0].event_id == "e7"


def test_a_search_has_a_query_instead_of_an_item(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "user_id,query,type,ts\nu,soup,search,1500000000000\n")
    assert events_of(path)[0].query == "soup"


def test_rows_out_of_order_are_faults_unless_sorted(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "user_id,item_id,ts\nu,b,1500000001000\nu,a,1500000000000\nu,c,1500000002000\n")
    (fault,) = event_faults(path, "required")
    assert fault == "a.csv, row 2: ts is earlier than in a row before; sort the file, or pass --sort"
    assert [event.item_id for event in events_of(path, "sorted")] == ["a", "b", "c"]
    assert [event.item_id for event in events_of(path, "any")] == ["b", "a", "c"]


def test_a_type_of_the_shops_own_is_what_the_setting_says_unless_the_command_says_otherwise(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "user_id,item_id,type,ts\nu,a,Wishlist,1500000000000\nu,b,view,1500000000001\n")
    own_types = OwnEventTypes({"wishlist": "like"})
    assert [event.type for event in events_of(path, own_types=own_types)] == ["like", "view"]
    assert [event.type for event in events_of(path, own_types=own_types, types="Wishlist=cart")] == ["cart", "view"]


def test_whole_ids_with_a_point_join_with_those_without(tmp_path: Path) -> None:
    csv = write(tmp_path, "a.csv", "user_id,item_id,ts\n7.0,1001.0,1500000000000\n,1002.0,1500000000001\n")
    jsonl = write(tmp_path, "a.jsonl", '{"user_id": 7.0, "item_id": 1001.0, "ts": 1500000000000}\n')
    assert event_faults(csv) == ["a.csv, row 2: user_id is empty"]
    (event,) = events_of(jsonl)
    assert (event.user_id, event.item_id) == ("7", "1001")
    assert "item_id: whole numbers, read without their decimal point" in EventFile.open(csv, EventOptions()).notes()


def test_words_of_public_data_are_event_types_and_others_need_a_mapping(tmp_path: Path) -> None:
    rows = ["u,i,addtocart,1500000000000", "u,i,compare,1500000000001", "u,i,transaction,1500000000002"]
    path = write(tmp_path, "a.csv", "\n".join(["user_id,item_id,event,ts", *rows]))
    (fault,) = event_faults(path)
    assert fault == (
        f"a.csv, row 2: event 'compare' is none of {', '.join(FILE_TYPES)}; say which it is, "
        "--types compare=view, or leave such rows out, --types compare="
    )
    assert [event.type for event in events_of(path, types="compare=")] == ["cart", "purchase"]
    assert [event.type for event in events_of(path, types="compare=view")] == ["cart", "view", "purchase"]


def test_how_rows_are_read_is_said(tmp_path: Path) -> None:
    rows = ["u,i,addtocart,1500000000", "u,i,drop,1500000001", "u,i,view,1500000002"]
    file = EventFile.open(
        write(tmp_path, "a.csv", "\n".join(["user_id,item_id,event,ts", *rows])), EventOptions(types={"drop": ""})
    )
    assert len(list(file.read())) == 2
    assert file.notes() == [
        "CSV separated by commas, utf-8",
        "type is read from the column event",
        "ts: seconds since 1970 (2 rows)",
        "type addtocart: read as cart (1 row)",
        "type drop: left out (1 row)",
    ]


def test_rows_without_types_get_the_default_which_is_said(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "user_id,item_id,ts\nu,i,1500000000000\n")
    assert events_of(path)[0].type == "purchase"
    assert events_of(path, default_type="view")[0].type == "view"
    assert "no column of types: every event is a purchase" in EventFile.open(path, EventOptions()).notes()


def test_times_in_two_units_are_a_fault(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "user_id,item_id,ts\nu,i,1500000000000\nu,i,1500000001\n")
    (fault,) = event_faults(path)
    assert fault.startswith(
        "a.csv, row 2: ts is in seconds since 1970, and earlier rows are in milliseconds since 1970"
    )


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("u,i,view,yesterday", "ts 'yesterday' is not a time; give milliseconds"),
        ("u,i,view,", "ts is empty"),
        (",i,view,1500000000000", "user_id is empty"),
        ("u,,view,1500000000000", "needs `item_id`"),
        ("u,NULL,view,1500000000000", "item_id 'NULL' stands for no value"),
        ("u,A100 ,view,1500000000000", "item_id 'A100 ' begins or ends with a blank"),
    ],
)
def test_a_fault_names_row_column_and_remedy(row: str, problem: str, tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", f"user_id,item_id,type,ts\nu,i,view,1500000000000\n{row}\n")
    (fault,) = event_faults(path)
    assert fault.startswith("a.csv, row 2: ")
    assert problem in fault


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("nobody,item_id,ts\nu,i,1\n", "no column user_id; it has nobody, item_id, ts. Say which is meant"),
        ("user_id,ts\nu,1500000000000\n", "no column item_id or query"),
    ],
)
def test_a_missing_column_is_named(content: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=problem):
        events_of(write(tmp_path, "a.csv", content))


@pytest.mark.parametrize("text", ["addtocart", "addtocart=basket"])
def test_a_wrong_mapping_of_types_is_named(text: str) -> None:
    with pytest.raises(UsageError, match="--types takes WORD=TYPE pairs"):
        parse_types(text)


def test_a_row_with_a_quantity_below_0_is_a_refund_and_no_purchase(tmp_path: Path) -> None:
    rows = ["u,i,1500000000000,-12,C489449", "u,i,1500000001000,12,489450", "u,i,1500000002000,,489451"]
    path = write(tmp_path, "a.csv", "\n".join(["user_id,item_id,ts,quantity,invoice", *rows]))
    file = EventFile.open(path, EventOptions())
    events = [event for event in file.read() if not isinstance(event, RowFault)]
    assert [event.type for event in events] == ["refund", "purchase", "purchase"]
    assert "quantity below 0: read as refund (1 row)" in file.notes()
    assert "columns not read: invoice" in file.notes()


def test_a_quantity_of_another_name_is_read_by_a_mapping_and_named_without(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "user_id,item_id,ts,Menge\nu,i,1500000000000,-1\n")
    assert [event.type for event in events_of(path)] == ["purchase"]
    assert "columns not read: Menge" in EventFile.open(path).notes()
    assert [event.type for event in events_of(path, columns="quantity=Menge")] == ["refund"]


def test_words_for_returns_are_refunds(tmp_path: Path) -> None:
    rows = ["u,i,Return,1500000000000", "u,i,refund,1500000000001", "u,i,sent back,1500000000002"]
    path = write(tmp_path, "a.csv", "\n".join(["user_id,item_id,type,ts", *rows, "u,i,view,1500000000003"]))
    file = EventFile.open(path, EventOptions.parse(None, "sent back=refund"))
    assert [event.type for event in file.read() if not isinstance(event, RowFault)] == ["refund"] * 3 + ["view"]
    assert {f"type {word}: read as refund (1 row)" for word in ("Return", "sent back")} <= {*file.notes()}


def test_a_row_of_an_impression_is_an_item_that_was_shown(tmp_path: Path) -> None:
    rows = ["u,a,seen,1500000000000", "u,b,view,1500000000002"]
    path = write(tmp_path, "a.csv", "\n".join(["user_id,item_id,type,ts", *rows]))
    impression, view = events_of(path, types="seen=impression")
    assert (impression.type, impression.shown, impression.item_id) == ("impression", ("a",), None)
    assert (view.type, view.shown) == ("view", ())
    nothing = write(tmp_path, "b.csv", "user_id,item_id,type,ts\nu,,impression,1500000000001\n")
    assert event_faults(nothing) == [
        "b.csv, row 1: item_id is empty: in a file, an impression is one row for each item"
    ]


def test_a_quantity_that_is_no_number_is_a_fault(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "user_id,item_id,ts,qty\nu,i,1500000000000,a dozen\n")
    assert event_faults(path) == ["a.csv, row 1: qty 'a dozen' is not a number"]


def test_a_default_type_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="--type: 'sold' is none of view, cart, purchase, search"):
        EventOptions.parse(None, None, "sold")
