from __future__ import annotations

from pathlib import Path

import pytest

from anabranch.errors import InvalidRow, UsageError
from anabranch.input_files.items import RemovedItem, read_items
from anabranch.messages import Item


def write(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_row_becomes_an_item(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "a.csv",
        "item_id,title,brand,category,price,available\n1,Soup,Acme,GROCERY > SOUP,1.5,false\n2,Bread,,,,\n",
    )
    assert list(read_items(path)) == [
        Item(item_id="1", title="Soup", brand="Acme", category=["GROCERY", "SOUP"], price=1.5, available=False),
        Item(item_id="2", title="Bread"),
    ]


def test_jsonl_may_give_the_category_as_a_list_and_other_vectors(tmp_path: Path) -> None:
    path = write(
        tmp_path, "a.jsonl", '{"item_id": "1", "title": "Soup", "category": ["A", "B"], "vectors": {"image": [0.5]}}\n'
    )
    (item,) = read_items(path)
    assert isinstance(item, Item)
    assert item.category == ["A", "B"]
    assert item.vectors == {"image": [0.5]}


def test_a_row_marked_deleted_becomes_a_removed_item(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "item_id,title,deleted\n1,Soup,true\n2,Bread,\n")
    assert list(read_items(path)) == [RemovedItem("1"), Item(item_id="2", title="Bread")]


def test_a_file_of_deletes_needs_ids_only(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "item_id\n1\n2\n")
    assert list(read_items(path, delete=True)) == [RemovedItem("1"), RemovedItem("2")]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("1,,1,true", "missing required field `title`"),
        (",Soup,1,true", "missing required field `item_id`"),
        ("1,Soup,dear,true", "price 'dear' is not a number"),
        ("1,Soup,1,maybe", "available 'maybe' is neither true nor false"),
    ],
)
def test_an_invalid_row_is_named(row: str, problem: str, tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", f"item_id,title,price,available\n1,Soup,1,yes\n{row}\n")
    with pytest.raises(InvalidRow, match=f"row 2: .*{problem}"):
        list(read_items(path))


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no column title"):
        list(read_items(write(tmp_path, "a.csv", "item_id\n1\n")))
