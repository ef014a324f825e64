"""Ids, prices, flags, categories and texts in the cells of a row."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from anabranch.input_files.cells import WholeNumbers, category_path, flag, id_text, plain_text, price


def drop_point(*values: Any) -> bool:
    whole = WholeNumbers()
    for value in values:
        whole.add(value)
    return whole.drop_point


def test_a_column_of_whole_numbers_with_a_point_loses_the_point() -> None:
    assert drop_point("1001.0", "1002.0", "")
    assert drop_point(1001.0, None, float("nan"), 7.0)
    assert not drop_point("1001", "1002"), "there is no point to lose"


@pytest.mark.parametrize("other", ["1002.5", "A7", 1002.5])
def test_one_id_that_is_not_whole_keeps_the_ids_of_the_column_as_they_are(other: Any) -> None:
    assert not drop_point("1001.0", other)


def test_an_id_is_exactly_what_is_written() -> None:
    assert id_text("0001001", drop_point=False) == "0001001"
    assert id_text("1001.0", drop_point=False) == "1001.0"
    assert id_text("1001.0", drop_point=True) == "1001"
    assert id_text(1001.0, drop_point=True) == "1001"
    assert id_text(1001, drop_point=False) == "1001"
    assert id_text(b"1001", drop_point=False) == "1001"
    assert id_text(Decimal("1001"), drop_point=False) == "1001"
    assert [id_text(empty, drop_point=False) for empty in (None, "", float("nan"))] == [None, None, None]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("A100 ", "begins or ends with a blank"),
        ("NULL", "stands for no value"),
        (r"\N", "stands for no value"),
        ("nan", "stands for no value"),
        ({"$oid": "1"}, "is an object"),
        (["1"], "is a list"),
        (True, "is true or false"),
        (1001.5, "is a number with a decimal point"),
        (b"\xff", "bytes that are not UTF-8"),
    ],
)
def test_what_is_no_id_is_refused(value: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        id_text(value, drop_point=False)


def test_a_float_that_has_lost_digits_is_refused() -> None:
    with pytest.raises(ValueError, match="digits are lost"):
        id_text(float(2**60), drop_point=True)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("1.5", 1.5),
        (19, 19.0),
        ("1e3", 1000.0),
        ("$1,299.00", 1299.0),
        ("1.299,00 €", 1299.0),
        ("12,50", 12.5),
        ("1,299", 1299.0),
        ("EUR 19.90", 19.9),
        ("CHF 1'299.50", 1299.5),
        ("", None),
        (float("nan"), None),
    ],
)
def test_a_price_is_read_in_the_ways_shops_write_it(value: Any, number: float | None) -> None:
    assert price(value) == number


@pytest.mark.parametrize("value", ["dear", "2 for 5", "1.2.3", {"amount": "19.90"}, [9.99, 19.99], True])
def test_what_is_no_price_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"is not a number|a price is a number"):
        price(value)


def test_flags_are_read_in_words() -> None:
    assert [flag(word, default=True) for word in ("yes", "In Stock", 1, True, None, "")] == [True] * 6
    assert [flag(word, default=True) for word in ("no", "out of stock", 0, False)] == [False] * 4
    with pytest.raises(ValueError, match="'maybe' is neither true nor false"):
        flag("maybe", default=True)


@pytest.mark.parametrize(
    "value",
    [
        "Home & Kitchen > Kettles",
        ["Home & Kitchen", "Kettles"],
        [["Home & Kitchen", "Kettles"], ["Sale"]],
        '["Home & Kitchen", "Kettles"]',
        b"Home & Kitchen > Kettles",
    ],
)
def test_a_category_path_is_read_in_every_form(value: Any) -> None:
    assert category_path(value) == ["Home & Kitchen", "Kettles"]


def test_a_category_may_be_empty_or_a_name_in_brackets() -> None:
    assert (category_path(None), category_path(""), category_path([])) == ([], [], [])
    assert category_path("[old] Pots") == ["[old] Pots"]


def test_a_list_of_texts_is_one_text_and_an_object_is_none() -> None:
    assert plain_text(["Boils fast.", "", "Keeps warm."]) == "Boils fast. Keeps warm."
    with pytest.raises(ValueError, match="is an object with en; say which is meant"):
        plain_text({"en": "Boils fast."})
