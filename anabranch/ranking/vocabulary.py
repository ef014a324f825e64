"""Item ids as dense rows, to index arrays; and as stable hashes, for saved states."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from anabranch.errors import AnabranchError
from anabranch.ranking.types import Hashes, Mask, Rows
from anabranch.ranking.unnamed_items import COLLIDES, FIRST_UNNAMED, NOT_FOUND, UNKNOWN_CHECK, UnnamedItems

SWEEP_AT_LEAST = 65_536
"""Unnamed items, some 2 MB, below which a sweep is not worth its pass over all user states."""


def stable_hash(text: str) -> int:
    """A 64-bit hash of an id, the same in every process (Python's own is salted); never 0, which means no id.

    Two of a million ids collide with a probability of 3e-8, two of a hundred million with 3e-4.
    """
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") or 1


def check_of(item_id: str) -> int:
    """A second hash, of 32 bits and for this process only, which nobody can make collide; never `UNKNOWN_CHECK`."""
    return hash(item_id) & 0xFFFF_FFFF or 1


class ItemIdCollision(AnabranchError):
    """Two item ids have the same stable hash: user states could not tell the two items apart."""

    def __init__(self, refused: str, kept: str | None) -> None:
        """`kept` is None for an item that is in user states but in no catalogue: only its hash is known."""
        other = "an item of earlier events that is in no catalogue" if kept is None else f"item {kept!r}"
        super().__init__(
            f"item {refused!r} is not used: its id has the same 64-bit hash as that of {other}. "
            "Give one of the two another id"
        )
        self.refused, self.kept = refused, kept


class Renumbered(NamedTuple):
    """Unnamed items that have a row from now on."""

    numbers: Rows
    """[n] their numbers so far"""
    rows: Rows
    """[n]"""


class ItemVocabulary:
    """Assigns rows 0, 1, 2 … to the items of catalogues and co-visits, for the life of a process.

    Items of events and saved states that have no row are unnamed: they get numbers from `FIRST_UNNAMED` on, beyond the
    end of all arrays by row, and only their hashes are kept. An unnamed item that is given a row keeps its
    number in the user states until `settle`, whose caller renumbers the states; `sweep` forgets the unnamed items that
    are in no user state. Any thread may name items: the release watcher does so while the main loop ranks. All else is
    the main loop's.
    """

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._rows_by_hash: dict[int, int] = {}
        self._ids: list[str] = []
        self._hashes: Hashes = np.zeros(1024, np.uint64)
        self._unnamed = UnnamedItems()
        self._unsettled: dict[int, int] = {}
        """Hash → row of the items that are unnamed in user states."""
        self._sweep_at = SWEEP_AT_LEAST
        self._collisions: list[ItemIdCollision] = []
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Number of items with a row."""
        return len(self._ids)

    @property
    def unnamed(self) -> int:
        """Number of items of which only the hash is kept."""
        return len(self._unnamed)

    def row(self, item_id: str) -> int:
        """The row of an item of a catalogue; a new one for a new item. Raises `ItemIdCollision`."""
        row = self._rows.get(item_id)
        return self._name(item_id) if row is None else row

    def rows(self, item_ids: Iterable[str]) -> Rows:
        """Rows [n] int32 of items of a catalogue; new ones for new items. Raises `ItemIdCollision`."""
        return np.fromiter((self.row(item_id) for item_id in item_ids), np.int32)

    def find(self, item_ids: Iterable[str]) -> Rows:
        """Rows [n] int32 of items of a catalogue; -1 for an item that has none, which stays so."""
        return np.array([self._rows.get(item_id, -1) for item_id in item_ids], np.int32)

    def accepts(self, item_id: str) -> bool:
        """Give the item a row; False, and one of `take_collisions`, if its hash is another item's."""
        try:
            self.row(item_id)
        except ItemIdCollision as collision:
            self._collisions.append(collision)
            return False
        return True

    def mentioned(self, item_ids: Iterable[str | None]) -> Rows:
        """Rows or numbers [n] int32 of the items that events are about; -1 for None.

        -1 too, and one of `take_collisions`, for an item whose hash is another item's.
        """
        item_ids, find = list(item_ids), self._rows.get
        rows = np.array([-1 if item_id is None else find(item_id, COLLIDES) for item_id in item_ids], np.int32)
        unnamed = np.flatnonzero(rows == COLLIDES)
        if len(unnamed):
            rows[unnamed] = self._numbers([str(item_ids[n]) for n in unnamed.tolist()])
        return rows

    def take_collisions(self) -> list[ItemIdCollision]:
        """The collisions since the last call."""
        collisions, self._collisions = self._collisions, []
        return collisions

    def id(self, row: int) -> str:
        """The item id of a row. Raises `LookupError` for an item of which only the hash is kept."""
        if row >= FIRST_UNNAMED:
            raise LookupError(f"item {self.label(row)} has no row: only its hash is kept")
        return self._ids[row]

    def ids(self, rows: Iterable[int]) -> list[str]:
        """The item ids of rows. Raises `LookupError` as `id` does."""
        return list(map(self._ids.__getitem__, rows))

    def label(self, row: int) -> str:
        """The item id of a row, or else its hash in hexadecimal, for display."""
        return self._ids[row] if row < FIRST_UNNAMED else f"#{int(self.hashes(np.array([row], np.int32))[0]):016x}"

    def hashes(self, rows: Rows) -> Hashes:
        """Hashes in the shape of `rows`; 0 for -1."""
        is_unnamed = rows >= FIRST_UNNAMED
        hashes = np.where(rows >= 0, self._hashes[np.where(is_unnamed, -1, rows)], np.uint64(0))
        if is_unnamed.any():
            hashes[is_unnamed] = self._unnamed.hashes(rows[is_unnamed])
        return hashes

    def rows_of_hashes(self, hashes: Hashes) -> Rows:
        """Rows or numbers [n] int32 of hashes [n]; new numbers for new hashes; -1 for 0."""
        distinct, inverse = np.unique(hashes, return_inverse=True)
        with self._lock:
            find = self._rows_by_hash.get
            rows = np.array([find(item_hash, NOT_FOUND) for item_hash in distinct.tolist()], np.int32)
            is_unnamed = (rows == NOT_FOUND) & (distinct != 0)
            new = distinct[is_unnamed]
            rows[is_unnamed] = self._unnamed.find_or_add(new, np.full(len(new), UNKNOWN_CHECK, np.uint32))
        return rows[inverse]

    @property
    def is_unsettled(self) -> bool:
        """Whether `settle` has anything to do."""
        return bool(self._unsettled)

    def settle(self) -> Renumbered:
        """From now on the items that were given a row are known by it; the caller renumbers all user states."""
        with self._lock:
            unsettled, self._unsettled = self._unsettled, {}
            hashes, rows = np.array(list(unsettled), np.uint64), np.array(list(unsettled.values()), np.int32)
            self._rows_by_hash.update(unsettled)
            self._rows.update((self._ids[row], row) for row in unsettled.values())
            numbers = self._unnamed.find(hashes)
            found = numbers != NOT_FOUND  # a sweep may have come between
            if found.any():
                self._unnamed.remove(numbers[found])
            return Renumbered(numbers[found], rows[found])

    @property
    def is_sweep_due(self) -> bool:
        """Whether so many unnamed items were added that a sweep is worth its time."""
        return self.unnamed >= self._sweep_at

    @property
    def unnamed_end(self) -> int:
        """The numbers of all unnamed items are below this one."""
        return self._unnamed.end

    def sweep(self, in_use: Mask) -> None:
        """Forget unnamed items but those in use; `in_use` [unnamed_end - FIRST_UNNAMED] has all that user states hold.

        The next sweep is due when there are twice as many, so that the time that sweeps take is in proportion to the
        items that are added.
        """
        with self._lock:
            self._unnamed.keep(in_use)
            self._sweep_at = max(SWEEP_AT_LEAST, 2 * self.unnamed)

    def _name(self, item_id: str) -> int:
        item_hash = stable_hash(item_id)
        with self._lock:
            row = self._rows_by_hash.get(item_hash, self._unsettled.get(item_hash))
            if row is None:
                row = self._add(item_hash, item_id, is_settled=not self._is_unnamed(item_id, item_hash))
            if self._ids[row] != item_id:
                raise ItemIdCollision(item_id, self._ids[row])
            return row

    def _is_unnamed(self, item_id: str, item_hash: int) -> bool:
        """Whether user states may contain the item under a number. Raises `ItemIdCollision`."""
        hashes, checks = np.array([item_hash], np.uint64), np.array([check_of(item_id)], np.uint32)
        if self._unnamed.find(hashes)[0] == NOT_FOUND:
            return False
        if self._unnamed.find_or_add(hashes, checks)[0] == COLLIDES:
            raise ItemIdCollision(item_id, None)
        return True

    def _add(self, item_hash: int, item_id: str, is_settled: bool) -> int:
        row = len(self._ids)
        if row == len(self._hashes):
            self._hashes = np.concatenate([self._hashes, np.zeros(row, np.uint64)])
        self._hashes[row] = item_hash
        self._ids.append(item_id)
        if is_settled:
            self._rows_by_hash[item_hash] = self._rows[item_id] = row
        else:
            self._unsettled[item_hash] = row
        return row

    def _numbers(self, item_ids: Sequence[str]) -> Rows:
        """Numbers [n] of items that had no row a moment ago; -1 for those whose hash is another item's."""
        hashes = [stable_hash(item_id) for item_id in item_ids]
        checks = np.array([check_of(item_id) for item_id in item_ids], np.uint32)
        with self._lock:
            rows = np.array([self._rows_by_hash.get(item_hash, NOT_FOUND) for item_hash in hashes], np.int32)
            new = rows == NOT_FOUND
            rows[new] = self._unnamed.find_or_add(np.array(hashes, np.uint64)[new], checks[new])
        for n, item_id in enumerate(item_ids):
            kept = self._ids[rows[n]] if 0 <= rows[n] < FIRST_UNNAMED else None
            if rows[n] == COLLIDES or (kept is not None and kept != item_id):
                self._collisions.append(ItemIdCollision(item_id, kept))
                rows[n] = -1
        return rows


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
