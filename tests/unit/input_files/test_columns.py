"""Columns found by their names, by common other names, and as the user says."""

from __future__ import annotations

import pytest

from anabranch.errors import UsageError
from anabranch.input_files.columns import EVENT_ALIASES, ITEM_ALIASES, map_columns, parse_columns


def columns(*header: str, given: str | None = None) -> dict[str, tuple[str, ...]]:
    return dict(map_columns(header, EVENT_ALIASES, parse_columns(given, EVENT_ALIASES)).columns)


@pytest.mark.parametrize(
    "header",
    [
        ("user_id", "item_id", "ts"),
        ("visitorid", "itemid", "timestamp"),
        ("reviewerID", "asin", "unixReviewTime"),
        ("Customer ID", "StockCode", "Date"),
        ("USER_ID", "PRODUCT_ID", "event_time"),
    ],
)
def test_common_names_are_found(header: tuple[str, str, str]) -> None:
    user, item, ts = header
    assert columns(*header) == {"user_id": (user,), "item_id": (item,), "ts": (ts,)}


def test_a_field_of_its_own_name_is_preferred() -> None:
    assert columns("visitorid", "user_id", "item_id", "ts")["user_id"] == ("user_id",)


def test_the_given_columns_are_read_and_no_others_for_the_field() -> None:
    found = columns("user_id", "anonymousId", "item_id", "ts", given="user_id=user_id|anonymousId")
    assert found["user_id"] == ("user_id", "anonymousId")


def test_the_first_filled_column_counts() -> None:
    mapped = map_columns(["a", "b"], EVENT_ALIASES, {"user_id": ("a", "b")})
    assert [
        mapped.get(cells, "user_id") for cells in ({"a": "1", "b": "2"}, {"a": None, "b": "2"}, {"a": "", "b": ""})
    ] == [
        "1",
        "2",
        None,
    ]


def test_a_nested_column_is_read_by_its_path() -> None:
    mapped = map_columns(["item_id", "texts"], ITEM_ALIASES, {"title": ("texts.en",)})
    assert mapped.get({"item_id": "1", "texts": {"en": "Mug"}}, "title") == "Mug"
    assert mapped.get({"item_id": "1", "texts": None}, "title") is None
    assert mapped.unread == ()


def test_renamed_and_unread_columns_are_said() -> None:
    mapped = map_columns(["visitorid", "itemid", "ts", "invoice"], EVENT_ALIASES, {})
    assert mapped.notes() == [
        "user_id is read from the column visitorid",
        "item_id is read from the column itemid",
        "columns not read: invoice",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("user_id", "takes FIELD=COLUMN pairs"),
        ("user_id=", "takes FIELD=COLUMN pairs"),
        ("usr=visitorid", "there is no field usr; there are user_id"),
    ],
)
def test_a_wrong_mapping_is_named(text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        parse_columns(text, EVENT_ALIASES)


def test_a_given_column_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match="there is no column visitor; there are user, ts"):
        map_columns(["user", "ts"], EVENT_ALIASES, {"user_id": ("visitor",)})
