"""Conversion of the cells of a row. Each function raises `ValueError` with the remedy."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

EXACT_FLOATS = 2**53
"""A float holds every whole number up to here."""
WHOLE = re.compile(r"[+-]?\d+")
WHOLE_WITH_POINT = re.compile(r"[+-]?\d+\.0+")
AMOUNT = re.compile(r"[^\d+-]{0,5}([+-]?\d[\d.,' \u00a0]*(?:[eE][+-]?\d+)?)[^\d]{0,5}")
"""A number, with a currency before or after it."""
DECIMAL_COMMA = re.compile(r"[+-]?(\d{1,3}(\.\d{3})+,\d+|\d+,\d{1,2})")
THOUSANDS_COMMA = re.compile(r",(?=\d{3}(\D|$))")
NULL_WORDS = frozenset({"null", "none", "nan", "<na>", "n/a", r"\n", "undefined", "nil"})
"""What exports write for a missing value, in lower case."""
TRUE = frozenset({"true", "t", "1", "yes", "y", "in stock", "instock", "in_stock", "available"})
FALSE = frozenset(
    {"false", "f", "0", "no", "n", "out of stock", "outofstock", "out_of_stock", "sold out", "unavailable"}
)


class WholeNumbers:
    """Whether all ids of a column are whole numbers, some of them written with a decimal point.

    pandas and spreadsheets write 1001 as 1001.0 when another row of the column is empty. Where every row is whole, the
    point is dropped; where one is not, ids are text as they are written.
    """

    def __init__(self) -> None:
        self._all_whole = True
        self._with_point = False

    def add(self, value: Any) -> None:
        """Take the value of another row into account; None: the row has none."""
        if not self._all_whole or value is None or value == "":
            return
        if isinstance(value, float):
            self._with_point |= not math.isnan(value)
            self._all_whole &= math.isnan(value) or value.is_integer()
        elif isinstance(value, str):
            has_point = WHOLE_WITH_POINT.fullmatch(value) is not None
            self._with_point |= has_point
            self._all_whole &= has_point or WHOLE.fullmatch(value) is not None
        else:
            self._all_whole &= isinstance(value, int)

    @property
    def drop_point(self) -> bool:
        """Whether 1001.0 is to be read as 1001."""
        return self._all_whole and self._with_point


def id_text(value: Any, drop_point: bool) -> str | None:
    """An id exactly as it is written; None if the cell is empty."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bytes):
        value = _decoded(value)
    if isinstance(value, Decimal) and value == value.to_integral_value():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"is {_kind(value)}, and an id is text or a whole number")
    if isinstance(value, float):
        return _whole_float(value, drop_point)
    text = str(value)
    if text != text.strip():
        raise ValueError(f"{text!r} begins or ends with a blank; remove it, since it would be another id")
    if text.lower() in NULL_WORDS:
        raise ValueError(f"{text!r} stands for no value; leave the cell empty, or leave the row out")
    if drop_point and WHOLE_WITH_POINT.fullmatch(text):
        return text.partition(".")[0]
    return text


def _whole_float(value: float, drop_point: bool) -> str:
    if not drop_point:
        raise ValueError(f"{value!r} is a number with a decimal point; other ids of the column are not whole numbers")
    if abs(value) >= EXACT_FLOATS:
        raise ValueError(
            f"{value!r} is too large for a number with a decimal point: digits are lost; export ids as text"
        )
    return str(int(value))


def plain_text(value: Any) -> str | None:
    """A text; a list of texts is joined. None if it is empty."""
    if isinstance(value, bytes):
        value = _decoded(value)
    if isinstance(value, (list, tuple)):
        value = " ".join(filter(None, map(plain_text, value)))
    if isinstance(value, dict):
        raise ValueError(
            f"is an object with {', '.join(map(str, value))}; say which is meant, --columns FIELD=COLUMN.KEY"
        )
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return str(value).strip() or None


def category_path(value: Any) -> list[str]:
    """A category path: a list, a list of lists of which the first counts, a JSON list as text, or `A > B`."""
    if isinstance(value, bytes):
        value = _decoded(value)
    if isinstance(value, str):
        value = _listed(value)
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], (list, tuple)):
        value = value[0]
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return []
    if isinstance(value, dict):
        raise ValueError(f"is {_kind(value)}; give a list, or text such as `GROCERY > SOUP`")
    levels: Sequence[Any] = value if isinstance(value, (list, tuple)) else [value]
    return [level for level in map(plain_text, levels) if level]


def _listed(text: str) -> Any:
    if text.lstrip().startswith("["):
        try:
            return msgspec.json.decode(text, type=list[Any])
        except msgspec.DecodeError:
            pass  # a bracket that begins a name
    return text.split(">")


def price(value: Any) -> float | None:
    """A price, with a currency, thousands separators and a decimal comma if need be; None if it is empty."""
    if isinstance(value, (dict, list, tuple, bool)):
        raise ValueError(f"is {_kind(value)}, and a price is a number; say which is meant, such as price=price.amount")
    return number(value)


def number(value: Any) -> float | None:
    """A number, written as a price may be; None if it is empty."""
    text = plain_text(value)
    if text is None:
        return None
    amount = AMOUNT.fullmatch(text)
    if amount is None:
        raise ValueError(f"{text!r} is not a number")
    digits = re.sub(r"[ '\u00a0]", "", amount[1])
    if DECIMAL_COMMA.fullmatch(digits):
        digits = digits.replace(".", "").replace(",", ".")
    try:
        return float(THOUSANDS_COMMA.sub("", digits))
    except ValueError as error:
        raise ValueError(f"{text!r} is not a number") from error


def flag(value: Any, default: bool) -> bool:
    """True or false, in words that shops use; `default` if it is empty."""
    text = plain_text(value)
    if text is None:
        return default
    if text.lower() in TRUE | FALSE:
        return text.lower() in TRUE
    raise ValueError(f"{text!r} is neither true nor false; write one of these")


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise ValueError("holds bytes that are not UTF-8 text") from error


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", tuple: "a list", bool: "true or false"}
    return kinds.get(type(value), f"a {type(value).__name__}")
