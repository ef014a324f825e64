"""The item index of one release: an immutable FAISS base, a small exact delta, and tombstones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.jit import compiled
from anabranch.ranking.retrieval.ann_index import AnnIndex, no_rest
from anabranch.ranking.types import Rows, Vectors, YieldCpu

REBUILD_SHARE, REBUILD_AT_LEAST = 0.002, 1024
"""The base is due for a rebuild when this share of it has changed, but not for fewer items: until it is over, every
query is compared with each of them."""
COMPARED_AT_ONCE = 2048
"""Vectors of the delta: their products with a batch's queries are still in the cache when they are looked through."""
SPARE = 16
"""Items asked of the base beyond those wanted, for the tombstones among them; where too few are left, more are."""


def rebuild_due(changed: float, items: float) -> bool:
    """Whether so many changes since a base of so many items was built are to be folded into a new one."""
    return changed > max(REBUILD_AT_LEAST, REBUILD_SHARE * items)


@dataclass(frozen=True)
class Rebuild:
    """What a new base is made of, while the index goes on changing."""

    vectors: Vectors  # [N, d], the index's own
    rows: Rows  # [n] servable when it began
    before: AnnIndex
    kept: NDArray[np.bool_]  # [N] those whose vectors in `before` were right when it began

    def base(self, between: YieldCpu = no_rest) -> AnnIndex:
        """Make it, in any thread. Rows that change meanwhile may be read half written: `swap_base` leaves them out."""
        return self.before.rebuilt_with(self.vectors, self.kept, self.rows, between)


class ItemColumns(NamedTuple):
    """What is known of the items, by row."""

    vectors: Vectors
    """[n, d]"""
    known: NDArray[np.bool_]
    """[n] whether the item has a vector."""
    servable: NDArray[np.bool_]
    """[n] whether it has, and is available."""


class ItemIndex:
    """Finds the items with the greatest inner product, and holds each item's vector by row.

    A change goes to the delta at once and is found by the next search; a rebuild folds it into the base.
    """

    def __init__(self, dims: int) -> None:
        self.dims = dims
        self.columns = _empty(1024, dims)
        self._in_base: NDArray[np.bool_] = np.zeros(1024, np.bool_)
        self._delta: dict[int, None] = {}
        self._gathered: tuple[Rows, Vectors] | None = None
        """Of the delta, what is servable and its vectors; None since it has changed."""
        self._stale = 0
        """Changes since the base was built, in it."""
        self._dead = 0
        """Vectors in the base that were no item's when it was built."""
        self._base = AnnIndex.empty(dims)
        self._changed: dict[int, None] | None = None
        """Rows changed since a rebuild began; None while none is under way."""

    def __len__(self) -> int:
        return int(self.columns.known.sum())

    def upsert(self, rows: Rows, vectors: Vectors, available: NDArray[np.bool_]) -> None:
        """Set the vectors [n, d] of rows [n]; an item that is not available is known but never found."""
        if len(rows) == 0:
            return
        self._reserve(int(rows.max()) + 1)
        self._leave_base(rows)
        self.columns.vectors[rows] = vectors
        self.columns.known[rows] = True
        self.columns.servable[rows] = available
        self._delta.update(dict.fromkeys(rows.tolist()))
        self._gathered = None
        self._note(rows)

    def remove(self, rows: Rows) -> None:
        """Forget the items; the next search no longer finds them."""
        rows = rows[rows < len(self.columns.known)]
        self._leave_base(rows)
        self.columns.known[rows] = False
        self.columns.servable[rows] = False
        self._note(rows)
        for row in rows.tolist():
            self._delta.pop(row, None)
        self._gathered = None

    def known(self, rows: Rows) -> NDArray[np.bool_]:
        """Which rows have a vector, in the shape of `rows`; False for -1."""
        inside = (rows >= 0) & (rows < len(self.columns.known))
        return inside & self.columns.known[np.where(inside, rows, 0)]

    def vectors(self, rows: Rows) -> Vectors:
        """Vectors [..., d] of known rows [...]."""
        return self.columns.vectors[rows]

    def search(self, queries: Vectors, k: int) -> tuple[Rows, Vectors]:
        """The k servable items of greatest inner product with each query [B, d].

        Returns rows [B, k], best first, -1 padded, and their inner products [B, k], -inf there.
        """
        if k == 0:
            return np.empty((len(queries), 0), np.int32), np.empty((len(queries), 0), np.float32)
        rows, scores = self._search_base(queries, k, SPARE)
        delta, vectors = self._searchable_delta
        for start in range(0, max(1, len(delta)), COMPARED_AT_ONCE):  # once if empty: warming up compiles `insert`
            some = slice(start, start + COMPARED_AT_ONCE)
            insert(queries @ vectors[some].T, delta[some], rows, scores)
        return rows, scores

    @property
    def base(self) -> AnnIndex:
        """What is searched but for the changes since it was built."""
        return self._base

    @property
    def needs_rebuild(self) -> bool:
        """Whether so much has changed since the base was built that a rebuild pays."""
        return self._changed is None and rebuild_due(self.pending_changes, len(self._base))

    @property
    def pending_changes(self) -> int:
        """Changes that are not in the base."""
        return len(self._delta) + self._stale

    def rebuild(self, between: YieldCpu = no_rest) -> None:
        """Fold delta and tombstones into a new base, while everything else waits."""
        self.swap_base(self.start_rebuild().base(between))

    def start_rebuild(self) -> Rebuild:
        """What to make a new base of, in another thread; then `swap_base` it."""
        self._changed = {}
        rows = np.flatnonzero(self.columns.servable).astype(np.int32)
        return Rebuild(self.columns.vectors, rows, self._base, self._in_base.copy())

    def swap_base(self, base: AnnIndex) -> None:
        """Search the new base from now on, and what has changed since its rebuild began as delta and tombstones."""
        if self._changed is None:
            raise ValueError("no rebuild has begun")
        changed = np.fromiter(self._changed, np.int32, len(self._changed))
        self._in_base[:] = False
        rows = base.items.rows
        self._in_base[rows[rows >= 0]] = True
        self._stale = int(self._in_base[changed].sum())
        self._dead = int((rows < 0).sum())
        self._in_base[changed] = False
        self._delta = dict.fromkeys(changed[self.columns.known[changed]].tolist())
        self._gathered = None
        self._base, self._changed = base, None

    @property
    def _searchable_delta(self) -> tuple[Rows, Vectors]:
        """What is servable of the delta, and its vectors, gathered once for every search until the next change."""
        if self._gathered is None:  # so in each of two threads that search first
            rows = np.fromiter(self._delta, np.int32, len(self._delta))
            rows = rows[self.columns.servable[rows]]
            self._gathered = rows, self.columns.vectors[rows]
        return self._gathered

    def _search_base(self, queries: Vectors, k: int, spare: int) -> tuple[Rows, Vectors]:
        """As `search`, of the base alone. Where tombstones take more than `spare` places of a query, it asks anew."""
        tombstones = self._stale + self._dead
        rows, scores = self._base.search(queries, k, self._in_base, min(tombstones, spare))
        short = np.flatnonzero((rows < 0).any(axis=1))
        if spare < tombstones and len(short):
            rows[short], scores[short] = self._search_base(queries[short], k, 8 * spare)
        return rows, scores

    def _note(self, rows: Rows) -> None:
        if self._changed is not None:
            self._changed.update(dict.fromkeys(rows.tolist()))

    def _leave_base(self, rows: Rows) -> None:
        self._stale += int(self._in_base[rows].sum())
        self._in_base[rows] = False

    def _reserve(self, capacity: int) -> None:
        short = capacity - len(self.columns.known)
        if short <= 0:
            return
        n = max(short, len(self.columns.known))
        more = _empty(n, self.dims)
        self.columns = ItemColumns(*(np.concatenate(both) for both in zip(self.columns, more, strict=True)))
        self._in_base = np.concatenate([self._in_base, np.zeros(n, np.bool_)])


def _empty(n: int, dims: int) -> ItemColumns:
    return ItemColumns(np.zeros((n, dims), np.float32), np.zeros(n, np.bool_), np.zeros(n, np.bool_))


@compiled
def insert(
    products: Vectors,  # [B, n]
    items: Rows,  # [n] that they are of
    rows: Rows,  # [B, k] best first, to be changed, as are the scores
    scores: Vectors,  # [B, k] -inf where there is no row
) -> None:
    """Let the items take their places among the best of each query; seldom more than a few have one."""
    k = rows.shape[1]
    for b in range(len(products)):
        for n in range(len(items)):
            product = products[b, n]
            if not product > scores[b, k - 1]:
                continue
            place = k - 1
            while place > 0 and product > scores[b, place - 1]:
                rows[b, place], scores[b, place] = rows[b, place - 1], scores[b, place - 1]
                place -= 1
            rows[b, place], scores[b, place] = items[n], product
