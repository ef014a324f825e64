"""Named tuples of arrays with one entry for each user, or for each item."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Columns = TypeVar("Columns", bound=tuple[NDArray[Any], ...])


def taken(columns: Columns, rows: NDArray[Any]) -> Columns:
    """The entries `rows`: numbers, or a mask."""
    return type(columns)(*(column[rows] for column in columns))


def joined(columns: Columns, more: Columns) -> Columns:
    """The entries of both."""
    return type(columns)(*map(np.concatenate, zip(columns, more, strict=True)))
