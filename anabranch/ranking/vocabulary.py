"""Item ids as dense rows, for arrays of them; and as stable hashes, for saved states."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from hashlib import blake2b
from typing import cast

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.types import Rows

Hashes = NDArray[np.uint64]
"""Stable hashes of ids; 0 stands for none."""


def stable_hash(text: str) -> int:
    """64 bits of an id, the same in every process (Python's own hash is salted); never 0, which means none.

    Two of a million ids share one with a probability of 3e-8, two of a hundred million of 3e-4.
    """
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") or 1


class ItemVocabulary:
    """Gives every item id a row, 0, 1, 2 …, for the life of a process; rows are never reused.

    A saved state names items by their hash alone. An item met there first has a row and no name, until a message names
    it; only an item that the index holds can be on a slate, and those have names.
    Any thread may intern: the release follower names items while the main loop ranks.
    """

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._rows_by_hash: dict[int, int] = {}
        self._ids: list[str | None] = []
        self._hashes: Hashes = np.zeros(1024, np.uint64)
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
        """The item id at a row. Raises `LookupError` for an item that only a saved state has named so far."""
        item_id = self._ids[row]
        if item_id is None:
            raise LookupError(f"the item at row {row} is known by its hash alone")
        return item_id

    def ids(self, rows: Iterable[int]) -> list[str]:
        """The item ids at rows. Raises `LookupError` as `id` does."""
        ids = list(map(self._ids.__getitem__, rows))
        if None in ids:
            raise LookupError("an item is known by its hash alone")
        return cast("list[str]", ids)

    def label(self, row: int) -> str:
        """The item id at a row, or its hash where that is all there is: for people."""
        return self._ids[row] or f"#{int(self._hashes[row]):016x}"

    def hashes(self, rows: Rows) -> Hashes:
        """Hashes in the shape of `rows`; 0 for -1."""
        return np.where(rows >= 0, self._hashes[rows], np.uint64(0))

    def rows_of_hashes(self, hashes: Hashes) -> Rows:
        """Rows [n] int32 of hashes [n], interned without a name at first sight; -1 for 0."""
        distinct, place = np.unique(hashes, return_inverse=True)
        rows = np.fromiter((self._row_of_hash(one) for one in distinct.tolist()), np.int32, len(distinct))
        return rows[place]

    def _row_of_hash(self, hashed: int) -> int:
        if hashed == 0:
            return -1
        row = self._rows_by_hash.get(hashed)
        if row is None:
            with self._growing:
                row = self._rows_by_hash.get(hashed)
                row = self._add(hashed, None) if row is None else row
        return row

    def _intern(self, item_id: str) -> int:
        hashed = stable_hash(item_id)
        with self._growing:
            row = self._rows_by_hash.get(hashed)
            if row is None:
                row = self._add(hashed, item_id)
            elif self._ids[row] is None:
                self._ids[row] = item_id
            self._rows[item_id] = row
            return row

    def _add(self, hashed: int, item_id: str | None) -> int:
        row = len(self._ids)
        if row == len(self._hashes):
            self._hashes = np.concatenate([self._hashes, np.zeros(row, np.uint64)])
        self._hashes[row] = hashed
        self._ids.append(item_id)
        self._rows_by_hash[hashed] = row
        return row


class ReleaseNumbers:
    """Gives every release id a number, 0, 1, 2 …, for the life of a process."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._ids: list[str] = []

    def number(self, release: str) -> int:
        """The release's number, a new one at first sight."""
        number = self._numbers.setdefault(release, len(self._ids))
        if number == len(self._ids):
            self._ids.append(release)
        return number

    def id(self, number: int) -> str | None:
        """The release id of a number; None for -1."""
        return None if number < 0 else self._ids[number]
