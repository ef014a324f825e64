"""Times in every common form."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from anabranch.input_files.times import parse_time

TEN = 1_614_592_800_000
"""2021-03-01T10:00:00Z"""


@pytest.mark.parametrize(
    ("value", "ms", "form"),
    [
        ("1614592800", TEN, "seconds since 1970"),
        ("1614592800.123", TEN + 123, "seconds since 1970"),
        (1614592800.5, TEN + 500, "seconds since 1970"),
        ("1614592800000", TEN, "milliseconds since 1970"),
        ("1614592800000.0", TEN, "milliseconds since 1970"),
        (TEN, TEN, "milliseconds since 1970"),
        ("1614592800123456", TEN + 123, "microseconds since 1970"),
        ("1614592800123456789", TEN + 123, "nanoseconds since 1970"),
        ("2021-03-01T10:00:00Z", TEN, "times with a time zone"),
        ("2021-03-01T11:00:00+01:00", TEN, "times with a time zone"),
        ("2021-03-01 10:00:00+0000", TEN, "times with a time zone"),
        ("2021-03-01T10:00:00.123456789Z", TEN + 123, "times with a time zone"),
        ("2021-03-01 10:00:00", TEN, "times without a time zone, taken as UTC"),
        ("2021-03-01 10:00:00 UTC", TEN, "ISO 8601 with UTC"),
        ("2021-03-01", TEN - 36_000_000, "dates, taken as midnight UTC"),
        ("20210301", TEN - 36_000_000, "dates, taken as midnight UTC"),
        (20210301, TEN - 36_000_000, "dates, taken as midnight UTC"),
        (date(2021, 3, 1), TEN - 36_000_000, "dates, taken as midnight UTC"),
        (datetime(2021, 3, 1, 10, tzinfo=UTC), TEN, "times with a time zone"),
        (datetime(2021, 3, 1, 10), TEN, "times without a time zone, taken as UTC"),
    ],
)
def test_a_time_is_read_and_its_form_is_said(value: Any, ms: int, form: str) -> None:
    assert parse_time(value) == (ms, form)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, "is empty; give milliseconds since 1970 or ISO 8601"),
        ("", "is empty"),
        (float("nan"), "is empty"),
        ("yesterday", "'yesterday' is not a time"),
        ("01/03/2021 10:00", "which number is the day"),
        ("01.03.2021", "which number is the day"),
        ("Mon Mar 01 10:00:00 UTC 2021", "a date in words"),
        ("1.6145928E+12", "a number that a spreadsheet has rounded"),
        ("44256.4166", "looks like a day number of a spreadsheet"),
        ("20210301100000", "could be 2021-03-01T10:00:00, or milliseconds"),
        ("0", "is not a time after 1973"),
        ("-1", "is not a time after 1973"),
        (-1.5, "is not a time after 1973"),
    ],
)
def test_a_time_that_could_be_read_wrongly_is_refused_with_a_remedy(value: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_time(value)
