"""Times in every common form, as milliseconds since 1970, UTC."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, time
from typing import Any, NamedTuple

UNITS = (
    ("seconds since 1970", 1e8, 1e11, 1e3),
    ("milliseconds since 1970", 1e11, 1e14, 1.0),
    ("microseconds since 1970", 1e14, 1e17, 1e-3),
    ("nanoseconds since 1970", 1e17, 1e20, 1e-6),
)
"""Name, smallest and largest number, and milliseconds per unit. The numbers are of the years 1973 to 5138."""
NUMBER = re.compile(r"[+-]?\d+(\.\d*)?")
SCIENTIFIC = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")
SLASHED = re.compile(r"\d{1,2}[/.]\d{1,2}[/.]\d{2,4}\b.*")
C_TIME = re.compile(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun)\b.*")
REMEDY = "give milliseconds since 1970 or ISO 8601, such as 2021-03-01T10:00:00Z"


class Moment(NamedTuple):
    """A time, and the form in which it was written."""

    ms: int
    """UTC, since 1970"""
    form: str


def as_iso(ms: int) -> str:
    """A time (UTC milliseconds) in ISO 8601, to the second."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def parse_time(value: Any) -> Moment:
    """A cell as a time. Raises `ValueError`, which says what it looks like, with the remedy."""
    if isinstance(value, datetime):
        return _of_datetime(value)
    if isinstance(value, date):
        return _of_date(value)
    if isinstance(value, bool) or value is None or (isinstance(value, float) and math.isnan(value)):
        raise ValueError(f"is empty; {REMEDY}")
    if isinstance(value, (int, float)):
        return _of_number(value, str(value))
    text = str(value).strip()
    if not text:
        raise ValueError(f"is empty; {REMEDY}")
    return _of_text(text)


def _of_text(text: str) -> Moment:
    if NUMBER.fullmatch(text):
        return _of_number(float(text) if "." in text else int(text), text)
    if SCIENTIFIC.fullmatch(text):
        raise ValueError(
            f"{text} is a number that a spreadsheet has rounded; export the column as text or whole numbers"
        )
    if SLASHED.fullmatch(text):
        raise ValueError(f"{text!r} does not say which number is the day and which is the month; {REMEDY}")
    if C_TIME.fullmatch(text):
        raise ValueError(f"{text!r} is a date in words; {REMEDY}")
    for suffix in (" UTC", " GMT"):
        if text.endswith(suffix):
            moment = _of_iso(text.removesuffix(suffix) + "+00:00")
            return Moment(moment.ms, f"ISO 8601 with{suffix}")
    return _of_iso(text)


def _of_iso(text: str) -> Moment:
    try:
        if len(text) == 10:
            return _of_date(date.fromisoformat(text))
        return _of_datetime(datetime.fromisoformat(text))
    except ValueError as error:
        raise ValueError(f"{text!r} is not a time; {REMEDY}") from error


def _of_number(number: float, text: str) -> Moment:
    compact = _compact(text)
    if compact is not None:
        return compact
    for name, smallest, largest, ms_per_unit in UNITS:
        if smallest <= number < largest:
            return Moment(_scaled(number, ms_per_unit), name)
    if 20_000 < number < 80_000:
        raise ValueError(f"{text} looks like a day number of a spreadsheet; {REMEDY}")
    raise ValueError(f"{text} is not a time after 1973; {REMEDY}")


def _scaled(number: float, ms_per_unit: float) -> int:
    """Whole numbers without rounding: a float has too few digits for nanoseconds."""
    if isinstance(number, int):
        return number * int(ms_per_unit) if ms_per_unit >= 1 else number // int(1 / ms_per_unit)
    return math.floor(number * ms_per_unit + 0.5)


def _compact(text: str) -> Moment | None:
    """YYYYMMDD, the basic form of ISO 8601. With a time of day behind it, it could be milliseconds too."""
    digits = text.removesuffix(".0")
    if re.fullmatch(r"(19|20)\d{6}", digits):
        try:
            return _of_date(date.fromisoformat(digits))
        except ValueError:
            return None
    if re.fullmatch(r"(19|20)\d{12}", digits):
        try:
            moment = datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        except ValueError:
            return None
        raise ValueError(f"{digits} could be {moment:%Y-%m-%dT%H:%M:%S}, or milliseconds; {REMEDY}")
    return None


def _of_datetime(moment: datetime) -> Moment:
    form = "times with a time zone" if moment.tzinfo else "times without a time zone, taken as UTC"
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return Moment(round(aware.timestamp() * 1000), form)


def _of_date(day: date) -> Moment:
    return Moment(round(datetime.combine(day, time(), UTC).timestamp() * 1000), "dates, taken as midnight UTC")
