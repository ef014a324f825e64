"""Item ids as dense rows, to index arrays; and as stable hashes, for saved states."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from hashlib import blake2b
from typing import cast

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.types import Rows

Hashes = NDArray[np.uint64]
"""Stable hashes of ids; 0: no id."""


def stable_hash(text: str) -> int:
    """A 64-bit hash of an id, the same in every process (Python's own is salted); never 0, which means no id.

    Two of a million ids collide with a probability of 3e-8, two of a hundred million with 3e-4.
    """
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") or 1


class ItemVocabulary:
    """Assigns rows 0, 1, 2 … to item ids for the life of a process; rows are never reused.

    Saved states contain hashes, not ids. An item first seen in a saved state has a row without an id until a message
    with its id arrives; items on a slate come from the index, whose items all have ids.
    Any thread may add items: the release watcher does so while the main loop ranks.
    """

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._rows_by_hash: dict[int, int] = {}
        self._ids: list[str | None] = []
        self._hashes: Hashes = np.zeros(1024, np.uint64)
        self._add_lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._ids)

    def row(self, item_id: str) -> int:
        """The item's row; a new one for a new item."""
        row = self._rows.get(item_id)
        return self._add_id(item_id) if row is None else row

    def rows(self, item_ids: Iterable[str]) -> Rows:
        """Rows [n] int32 of the items; new ones for new items."""
        return np.fromiter((self.row(item_id) for item_id in item_ids), np.int32)

    def id(self, row: int) -> str:
        """The item id of a row. Raises `LookupError` for an item of which only the hash is known."""
        item_id = self._ids[row]
        if item_id is None:
            raise LookupError(f"row {row} has no item id yet, only a hash from a saved state")
        return item_id

    def ids(self, rows: Iterable[int]) -> list[str]:
        """The item ids of rows. Raises `LookupError` as `id` does."""
        ids = list(map(self._ids.__getitem__, rows))
        if None in ids:
            raise LookupError("a row has no item id yet, only a hash from a saved state")
        return cast("list[str]", ids)

    def label(self, row: int) -> str:
        """The item id of a row, or else its hash in hexadecimal, for display."""
        return self._ids[row] or f"#{int(self._hashes[row]):016x}"

    def hashes(self, rows: Rows) -> Hashes:
        """Hashes in the shape of `rows`; 0 for -1."""
        return np.where(rows >= 0, self._hashes[rows], np.uint64(0))

    def rows_of_hashes(self, hashes: Hashes) -> Rows:
        """Rows [n] int32 of hashes [n]; new ones, without an id, for new hashes; -1 for 0."""
        distinct, inverse = np.unique(hashes, return_inverse=True)
        rows = np.fromiter((self._row_of_hash(item_hash) for item_hash in distinct.tolist()), np.int32, len(distinct))
        return rows[inverse]

    def _row_of_hash(self, item_hash: int) -> int:
        if item_hash == 0:
            return -1
        row = self._rows_by_hash.get(item_hash)
        if row is None:
            with self._add_lock:
                row = self._rows_by_hash.get(item_hash)
                row = self._add(item_hash, None) if row is None else row
        return row

    def _add_id(self, item_id: str) -> int:
        item_hash = stable_hash(item_id)
        with self._add_lock:
            row = self._rows_by_hash.get(item_hash)
            if row is None:
                row = self._add(item_hash, item_id)
            elif self._ids[row] is None:
                self._ids[row] = item_id
            self._rows[item_id] = row
            return row

    def _add(self, item_hash: int, item_id: str | None) -> int:
        row = len(self._ids)
        if row == len(self._hashes):
            self._hashes = np.concatenate([self._hashes, np.zeros(row, np.uint64)])
        self._hashes[row] = item_hash
        self._ids.append(item_id)
        self._rows_by_hash[item_hash] = row
        return row


class ReleaseNumbers:
    """Assigns numbers 0, 1, 2 … to release ids for the life of a process."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._ids: list[str] = []

    def number(self, release: str) -> int:
        """The release's number; a new one for a new release."""
        number = self._numbers.setdefault(release, len(self._ids))
        if number == len(self._ids):
            self._ids.append(release)
        return number

    def id(self, number: int) -> str | None:
        """The release id of a number; `None` for -1."""
        return None if number < 0 else self._ids[number]
