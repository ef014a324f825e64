"""The item index of one release: an immutable FAISS base, a small exact delta, and tombstones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.jit import compiled
from anabranch.ranking.retrieval.ann_index import AnnIndex, never_yield
from anabranch.ranking.retrieval.item_attributes import ItemAttributes
from anabranch.ranking.top_k import insert_best_first
from anabranch.ranking.types import Floats, Hashes, Mask, Rows, Vectors, YieldCpu

REBUILD_SHARE, REBUILD_AT_LEAST = 0.002, 1024
"""The base is rebuilt once more than this share of its items, and more than this number, have changed: until then
every query is compared with each changed item."""
DELTA_CHUNK = 2048
"""Vectors of the delta compared at a time: their products with a batch's queries stay in the cache."""
SPARE_RESULTS = 16
"""Results requested from the base beyond k, to replace tombstones; queries that still lack results request more."""


def rebuild_due(changed: float, items: float) -> bool:
    """Whether `changed` items since a base of `items` items was built call for a new one."""
    return changed > max(REBUILD_AT_LEAST, REBUILD_SHARE * items)


@dataclass(frozen=True)
class Rebuild:
    """The inputs of a new base, taken when its rebuild started; the index may change during the rebuild."""

    vectors: Vectors  # [N, d] shared with the index
    rows: Rows  # [n] items that were servable
    old_base: AnnIndex
    unchanged: Mask  # [N] items whose vector in `old_base` was up to date

    def build(self, yield_cpu: YieldCpu = never_yield) -> AnnIndex:
        """Build the new base, in any thread.

        A vector that changes during the build may be read half written; `swap_base` replaces it from the delta.
        """
        return self.old_base.rebuilt_with(self.vectors, self.unchanged, self.rows, yield_cpu)


class ItemColumns(NamedTuple):
    """Vectors, availability and attributes of the items, by row."""

    vectors: Vectors
    """[n, d]"""
    known: Mask
    """[n] whether the item has a vector."""
    servable: Mask
    """[n] whether the item has a vector and is available."""
    hashes: Hashes
    """[n] of the items' ids: the order of items with equal vectors."""
    categories: Hashes
    """[n] as in `ItemAttributes`, like the next three."""
    brands: Hashes
    domains: Hashes
    prices: Floats


class ItemIndex:
    """Finds the items of greatest inner product, and stores each item's vector by row.

    A change goes to the delta, where the next search finds it; a rebuild moves it to the base. Of items with equal
    vectors, such as a hundred with one title, those with the smallest hashes come first: in every process, whatever the
    order in which their vectors arrived.
    """

    def __init__(self, dims: int) -> None:
        self.dims = dims
        self.columns = _empty(1024, dims)
        self.category_paths: dict[int, tuple[str, ...]] = {}
        """Those of all items that ever were in the index, by their hashes."""
        self._in_base: Mask = np.zeros(1024, np.bool_)
        self._delta: dict[int, None] = {}
        self._delta_cache: tuple[Rows, Vectors] | None = None
        """Servable items of the delta and their vectors; None after a change."""
        self._stale = 0
        """Items of the base that have changed or been removed since it was built."""
        self._deleted = 0
        """Entries of the base that belonged to no item when it was built."""
        self._base = AnnIndex.empty(dims)
        self._changed: dict[int, None] | None = None
        """Rows changed since the rebuild in progress started; None without one."""

    def __len__(self) -> int:
        return int(self.columns.known.sum())

    def upsert(
        self,
        rows: Rows,
        vectors: Vectors,
        available: Mask,
        hashes: Hashes | None = None,
        attributes: ItemAttributes | None = None,
    ) -> None:
        """Set the vectors [n, d] of rows [n]; an unavailable item has a vector but is never returned.

        `hashes` [n] of the item ids; without them, items with equal vectors are in the order of their rows.
        Without `attributes` the items have none.
        """
        if len(rows) == 0:
            return
        self._reserve(int(rows.max()) + 1)
        self._mark_stale(rows)
        self.columns.vectors[rows] = vectors
        self.columns.known[rows] = True
        self.columns.servable[rows] = available
        self.columns.hashes[rows] = rows if hashes is None else hashes
        self._set_attributes(rows, ItemAttributes.none(len(rows)) if attributes is None else attributes)
        self._delta.update(dict.fromkeys(rows.tolist()))
        self._delta_cache = None
        self._record_change(rows)

    def remove(self, rows: Rows) -> None:
        """Remove the items; the next search no longer returns them."""
        rows = rows[rows < len(self.columns.known)]
        self._mark_stale(rows)
        self.columns.known[rows] = False
        self.columns.servable[rows] = False
        self._record_change(rows)
        for row in rows.tolist():
            self._delta.pop(row, None)
        self._delta_cache = None

    def known(self, rows: Rows) -> Mask:
        """Which rows have a vector, in the shape of `rows`; False for -1."""
        in_range = (rows >= 0) & (rows < len(self.columns.known))
        return in_range & self.columns.known[np.where(in_range, rows, 0)]

    def vectors(self, rows: Rows) -> Vectors:
        """Vectors [..., d] of rows [...] that have one."""
        return self.columns.vectors[rows]

    @property
    def all_attributes(self) -> ItemAttributes:
        """The attributes of the items of all rows: the columns themselves."""
        columns = self.columns
        return ItemAttributes(columns.categories, columns.brands, columns.domains, columns.prices, self.category_paths)

    def attributes(self, rows: Rows) -> ItemAttributes:
        """The attributes of the items of rows [n]."""
        return self.all_attributes.take(rows)

    def search(self, queries: Vectors, k: int) -> tuple[Rows, Vectors]:
        """The k servable items of greatest inner product with each query [B, d].

        Returns rows [B, k], best first, -1 padded, and their inner products [B, k], -inf there.
        """
        if k == 0:
            return np.empty((len(queries), 0), np.int32), np.empty((len(queries), 0), np.float32)
        rows, scores = self._search_base(queries, k, SPARE_RESULTS)
        delta, vectors = self._searchable_delta
        for start in range(0, max(1, len(delta)), DELTA_CHUNK):  # once if empty: the warm-up compiles `merge_top_k`
            chunk = slice(start, start + DELTA_CHUNK)
            merge_top_k(queries @ vectors[chunk].T, delta[chunk], rows, scores)
        return rows, scores

    @property
    def base(self) -> AnnIndex:
        """The index of every item that has not changed since it was built."""
        return self._base

    @property
    def needs_rebuild(self) -> bool:
        """Whether enough items have changed for a rebuild, and none is in progress."""
        return self._changed is None and rebuild_due(self.pending_changes, len(self._base))

    @property
    def pending_changes(self) -> int:
        """Number of changes that are not in the base: items of the delta and stale items of the base."""
        return len(self._delta) + self._stale

    def rebuild(self, yield_cpu: YieldCpu = never_yield) -> None:
        """Rebuild the base from the current items, in this thread."""
        self.swap_base(self.start_rebuild().build(yield_cpu))

    def start_rebuild(self) -> Rebuild:
        """Start to record changes; call `build` of the result in any thread, and `swap_base` with the new base."""
        self._changed = {}
        rows = self._in_order(np.flatnonzero(self.columns.servable).astype(np.int32))
        return Rebuild(self.columns.vectors, rows, self._base, self._in_base.copy())

    def swap_base(self, base: AnnIndex) -> None:
        """Replace the base. Items that changed during the rebuild become the delta and tombstones.

        Raises `ValueError` without a `start_rebuild` before.
        """
        if self._changed is None:
            raise ValueError("no rebuild has started")
        changed = np.fromiter(self._changed, np.int32, len(self._changed))
        self._in_base[:] = False
        rows = base.items.rows
        self._in_base[rows[rows >= 0]] = True
        self._stale = int(self._in_base[changed].sum())
        self._deleted = int((rows < 0).sum())
        self._in_base[changed] = False
        self._delta = dict.fromkeys(changed[self.columns.known[changed]].tolist())
        self._delta_cache = None
        self._base, self._changed = base, None

    @property
    def _searchable_delta(self) -> tuple[Rows, Vectors]:
        """Servable items of the delta and their vectors, gathered at the first search after a change."""
        if self._delta_cache is None:  # two threads may both gather: the results are equal
            rows = np.fromiter(self._delta, np.int32, len(self._delta))
            rows = self._in_order(rows[self.columns.servable[rows]])
            self._delta_cache = rows, self.columns.vectors[rows]
        return self._delta_cache

    def _search_base(self, queries: Vectors, k: int, spare: int) -> tuple[Rows, Vectors]:
        """As `search`, of the base alone. Queries with more than `spare` tombstones are searched again with more."""
        tombstones = self._stale + self._deleted
        rows, scores = self._base.search(queries, k, self._in_base, min(tombstones, spare))
        incomplete = np.flatnonzero((rows < 0).any(axis=1))
        if spare < tombstones and len(incomplete):
            rows[incomplete], scores[incomplete] = self._search_base(queries[incomplete], k, 8 * spare)
        return rows, scores

    def _set_attributes(self, rows: Rows, attributes: ItemAttributes) -> None:
        self.columns.categories[rows] = attributes.categories
        self.columns.brands[rows] = attributes.brands
        self.columns.domains[rows] = attributes.domains
        self.columns.prices[rows] = attributes.prices
        self.category_paths.update(attributes.category_paths)

    def _in_order(self, rows: Rows) -> Rows:
        return rows[np.argsort(self.columns.hashes[rows], kind="stable")]

    def _record_change(self, rows: Rows) -> None:
        if self._changed is not None:
            self._changed.update(dict.fromkeys(rows.tolist()))

    def _mark_stale(self, rows: Rows) -> None:
        self._stale += int(self._in_base[rows].sum())
        self._in_base[rows] = False

    def _reserve(self, capacity: int) -> None:
        missing = capacity - len(self.columns.known)
        if missing <= 0:
            return
        n = max(missing, len(self.columns.known))
        more = _empty(n, self.dims)
        grown: list[NDArray[Any]] = [
            np.concatenate([old, new]) for old, new in zip(iter(self.columns), iter(more), strict=True)
        ]
        self.columns = ItemColumns(*grown)
        self._in_base = np.concatenate([self._in_base, np.zeros(n, np.bool_)])


def _empty(n: int, dims: int) -> ItemColumns:
    return ItemColumns(
        vectors=np.zeros((n, dims), np.float32),
        known=np.zeros(n, np.bool_),
        servable=np.zeros(n, np.bool_),
        hashes=np.zeros(n, np.uint64),
        categories=np.zeros(n, np.uint64),
        brands=np.zeros(n, np.uint64),
        domains=np.zeros(n, np.uint64),
        prices=np.full(n, np.nan, np.float32),
    )


@compiled
def merge_top_k(
    products: Vectors,  # [B, n]
    items: Rows,  # [n]
    rows: Rows,  # [B, k] best first, changed in place, as are the scores
    scores: Vectors,  # [B, k] -inf without a row
) -> None:
    """Merge items into the k best of each query; few of them usually enter."""
    k = rows.shape[1]
    for b in range(len(products)):
        for n in range(len(items)):
            if products[b, n] > scores[b, k - 1]:
                insert_best_first(scores, rows, b, k, products[b, n], items[n])
