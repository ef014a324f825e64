"""Item ids as dense rows, so that state, index and neighbours are arrays."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int32]
"""Item rows; -1 stands for no item."""


class ItemIds:
    """Gives every item id a row, 0, 1, 2 …, for the life of a process; rows are never reused.

    Any thread may intern: the release follower names items while the main loop ranks.
    """

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._ids: list[str] = []
        self._growing = threading.Lock()

    def __len__(self) -> int:
        return len(self._ids)

    def row(self, item_id: str) -> int:
        """The item's row, a new one at first sight."""
        row = self._rows.get(item_id)
        return self._intern(item_id) if row is None else row

    def rows(self, item_ids: Iterable[str]) -> Rows:
        """Rows [n] int32 of the items, interned at first sight."""
        return np.fromiter((self.row(item_id) for item_id in item_ids), np.int32)

    def id(self, row: int) -> str:
        """The item id at a row."""
        return self._ids[row]

    def _intern(self, item_id: str) -> int:
        with self._growing:
            row = self._rows.get(item_id)
            if row is None:
                row = len(self._ids)
                self._ids.append(item_id)
                self._rows[item_id] = row
            return row
