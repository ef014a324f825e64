"""Items of a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from anabranch.errors import UsageError
from anabranch.input_files.items import ItemFile, RemovedItem
from anabranch.messages import Item
from tests.support.input_files import item_faults, items_of, write


def test_a_row_becomes_an_item(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "a.csv",
        "item_id,title,brand,category,price,available\n1,Soup,Acme,GROCERY > SOUP,1.5,false\n2,Bread,,,,\n",
    )
    assert items_of(path) == [
        Item(item_id="1", title="Soup", brand="Acme", category=["GROCERY", "SOUP"], price=1.5, available=False),
        Item(item_id="2", title="Bread"),
    ]


def test_common_names_and_words_are_found(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "SKU;Product Name;In Stock;Price\n0001;Mug;sold out;1.299,00\n")
    assert items_of(path) == [Item(item_id="0001", title="Mug", price=1299.0, available=False)]


def test_json_may_have_lists_and_other_vectors(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "a.jsonl",
        '{"item_id": "1", "title": ["Steel kettle", "blue"], "category": [["Home", "Kettles"]], "price": 25.0,'
        ' "description": ["Boils fast.", "Keeps warm."], "vectors": {"image": [0.5]}}\n',
    )
    (item,) = items_of(path)
    assert item == Item(
        item_id="1",
        title="Steel kettle blue",
        description="Boils fast. Keeps warm.",
        category=["Home", "Kettles"],
        price=25.0,
        vectors={"image": [0.5]},
    )


def test_an_empty_title_is_allowed_if_there_is_other_text(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "item_id,title,brand\n1,,Acme\n2,,\n")
    assert item_faults(path) == ["a.csv, row 2: title is empty, and there is no other text"]


def test_a_row_marked_deleted_becomes_a_removed_item(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "item_id,title,deleted\n1,Soup,true\n2,Bread,\n")
    assert items_of(path) == [RemovedItem("1"), Item(item_id="2", title="Bread")]


def test_a_file_of_deletes_needs_ids_only(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "item_id\n1\n2\n")
    assert items_of(path, delete=True) == [RemovedItem("1"), RemovedItem("2")]
    with pytest.raises(UsageError, match="no column title"):
        items_of(path)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (",Soup,1,true", "item_id is empty"),
        ("1,Soup,dear,true", "price 'dear' is not a number"),
        ("1,Soup,1,maybe", "available 'maybe' is neither true nor false"),
        ("1 ,Soup,1,true", "item_id '1 ' begins or ends with a blank"),
    ],
)
def test_a_fault_names_row_column_and_remedy(row: str, problem: str, tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", f"item_id,title,price,available\n1,Soup,1,yes\n{row}\n")
    (fault,) = item_faults(path)
    assert fault.startswith(f"a.csv, row 2: {problem}")


def test_an_object_needs_a_path(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", '{"item_id": "1", "title": "Umbrella", "price": {"amount": "19.90"}}\n')
    assert item_faults(path) == [
        "a.jsonl, row 1: price is an object, and a price is a number; say which is meant, such as price=price.amount"
    ]
    (item,) = ItemFile.open(path, {"price": ("price.amount",)}).read()
    assert isinstance(item, Item) and item.price == 19.9
