"""The immutable base of an item index: a FAISS index, flat for small catalogues and HNSW for large ones."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Self

import faiss
import numpy as np

from anabranch.ranking.retrieval.duplicate_vectors import (
    NearestVectors,
    VectorDeduplicator,
    VectorGroups,
    expand_groups,
)
from anabranch.ranking.types import Mask, Rows, Vectors, YieldCpu

FLAT_INDEX_MAX_ITEMS = 50_000
"""Catalogues below this size get a flat index, which compares a query with every vector; larger ones an HNSW graph.

An inverted file (IVF) would work as well for queries that are distributed as the items are. User vectors are not: a
tenth of all lists had to be searched for them, a cost that grows with the catalogue; that of an HNSW search hardly
does.

Items with equal text have equal vectors, and an index holds each distinct vector once. In a graph, copies of a vector
link mostly to each other, so that with more than M of them a search finds either all or, because it cannot reach them,
none. Of a flat index, a search finds some of them, by the last bits of products that depend on the batch.
"""
M, EF_CONSTRUCTION = 32, 100
"""HNSW links per vector, and search width while the graph is built. Larger values raise recall and build time."""
RECALL_TARGET, RECALL_K = 0.97, 100
"""`tune` chooses the smallest efSearch that reaches this recall at this k."""
INITIAL_EF_SEARCH, MAX_EF_SEARCH = 200, 400
"""efSearch before the first `tune`, and its upper bound: user vectors far from every item would need a larger one, and
all other users would wait for their searches."""
SCANS_PER_EF_SEARCH = 150
"""Vectors that a scan compares in the time that raising efSearch by 1 adds to an HNSW search."""
MAX_DELETED_SHARE = 0.25
"""The graph is built from scratch once more than this share of its entries belongs to changed or removed items."""
ADD_CHUNK, SCAN_CHUNK = 512, 8
"""Vectors added, and queries scanned, between two calls of `yield_cpu`."""


def never_yield() -> None:
    """A `YieldCpu` for work that need not pause."""


@dataclass(frozen=True)
class AnnIndex:
    """A FAISS index of distinct vectors, and the items that have each of them.

    The vectors and the graph never change once built, so any number of threads may search. efSearch alone changes:
    `tune` sets it while other threads search, and each search uses the value before or after.
    """

    faiss_index: faiss.Index
    items: VectorGroups

    @classmethod
    def empty(cls, dims: int) -> Self:
        """An index without vectors."""
        return cls(faiss.IndexFlatIP(dims), VectorGroups.singletons(np.empty(0, np.int32)))

    @classmethod
    def build(cls, vectors: Vectors, rows: Rows, yield_cpu: YieldCpu = never_yield) -> Self:
        """Index `vectors[rows]` of vectors [N, d] and rows [n]. May run in a background thread.

        Of items with equal vectors, the first in `rows` are found first.
        """
        if len(rows) < FLAT_INDEX_MAX_ITEMS:
            flat = faiss.IndexFlatIP(vectors.shape[1])
            return cls(flat, _add_distinct(flat, vectors, rows, yield_cpu))
        graph = faiss.IndexHNSWFlat(vectors.shape[1], M, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = EF_CONSTRUCTION
        items = _add_distinct(graph, vectors, rows, yield_cpu)
        graph.hnsw.efSearch = INITIAL_EF_SEARCH
        return cls(graph, items)

    def rebuilt_with(self, vectors: Vectors, unchanged: Mask, rows: Rows, yield_cpu: YieldCpu = never_yield) -> Self:
        """An index of `vectors[rows]` of vectors [N, d] and rows [n]; this one holds the `unchanged` [N] of them.

        A graph is cloned and extended, in a hundredth of the time of a new one, until `MAX_DELETED_SHARE` of it is
        deleted. May run in a background thread, while other threads search this index.
        """
        old_rows = self.items.rows
        valid_rows = np.where((old_rows >= 0) & unchanged[old_rows], old_rows, -1).astype(np.int32)
        added_rows = rows[~unchanged[rows]]
        deleted_share = (valid_rows < 0).sum() / max(1, len(valid_rows) + len(added_rows))
        if self._graph is not None and len(rows) >= FLAT_INDEX_MAX_ITEMS and deleted_share <= MAX_DELETED_SHARE:
            graph = faiss.clone_index(self.faiss_index)
            added = _add_distinct(graph, vectors, added_rows, yield_cpu)
            return type(self)(graph, self.items._replace(rows=valid_rows).followed_by(added))
        rebuilt = type(self).build(vectors, rows, yield_cpu)
        if self._graph is not None and rebuilt._graph is not None:
            rebuilt._graph.hnsw.efSearch = self._graph.hnsw.efSearch  # tuned to the same users
        return rebuilt

    def __len__(self) -> int:
        """Entries, including those whose item has since changed or been removed."""
        return len(self.items.rows)

    def search(self, queries: Vectors, k: int, valid: Mask, spare: int = 0) -> tuple[Rows, Vectors]:
        """Rows [B, k] of the `valid` [N] items of greatest inner product with each query [B, d], and these products.

        Best first. Padded with -1 and -inf if fewer than k of the k + `spare` nearest vectors' items are valid.
        """
        rows, scores = np.full((len(queries), k), -1, np.int32), np.full((len(queries), k), -np.inf, np.float32)
        products, positions = self._search_index.search(np.ascontiguousarray(queries), k + spare)
        expand_groups(NearestVectors(positions, products), self.items, valid, rows, scores)
        return rows, scores

    @property
    def ef_search(self) -> int:
        """efSearch of the HNSW search; 0 if every vector is compared."""
        return 0 if self._graph is None or self._search_index is not self._graph else self._graph.hnsw.efSearch

    def recall(self, queries: Vectors, yield_cpu: YieldCpu = never_yield) -> float:
        """Recall at `RECALL_K` against exact search, over queries [B, d]. May run in any thread."""
        if self._graph is None or not self.ef_search:
            return 1.0
        exact = _exact_scores(self._graph, queries, yield_cpu)
        return recall_of_scores(exact, _hnsw_scores(self._graph, queries, self.ef_search))

    def tune(self, queries: Vectors, yield_cpu: YieldCpu = never_yield) -> float:
        """Set efSearch to the smallest value that reaches `RECALL_TARGET` for queries [B, d]; returns their recall.

        If a scan of all vectors would be as fast, later searches scan. May run in any thread, while others search.
        The binary search relies on recall growing with efSearch.
        """
        graph = self._graph
        if graph is None:
            return 1.0
        exact = _exact_scores(graph, queries, yield_cpu)

        def recall_with(ef_search: int) -> float:
            yield_cpu()
            return recall_of_scores(exact, _hnsw_scores(graph, queries, ef_search))

        def reaches_target(ef_search: int) -> bool:
            return recall_with(ef_search) >= RECALL_TARGET

        largest = min(MAX_EF_SEARCH, self._scan_ef_search)
        upper = RECALL_K
        while upper < largest and not reaches_target(upper):
            upper = min(2 * upper, largest)
        lower = RECALL_K if upper == RECALL_K else upper // 2 + 1
        ef_search = bisect_left(range(upper), True, lo=lower, key=reaches_target)
        recall = recall_with(ef_search)
        if recall >= RECALL_TARGET:
            graph.hnsw.efSearch = ef_search
        else:
            graph.hnsw.efSearch = largest + (largest == self._scan_ef_search)  # one more: scan
        return recall if self.ef_search else 1.0

    @property
    def _graph(self) -> faiss.IndexHNSWFlat | None:
        return self.faiss_index if isinstance(self.faiss_index, faiss.IndexHNSWFlat) else None

    @property
    def _scan_ef_search(self) -> int:
        """The efSearch at which an HNSW search takes as long as a scan of every vector."""
        return self.faiss_index.ntotal // SCANS_PER_EF_SEARCH

    @property
    def _search_index(self) -> faiss.Index:
        """The graph or, if a scan is faster, the flat storage below it."""
        graph = self._graph
        if graph is None or graph.hnsw.efSearch <= self._scan_ef_search:
            return self.faiss_index
        return faiss.downcast_index(graph.storage)


def recall_of_scores(exact: Vectors, scores: Vectors) -> float:
    """Share of the exact top k in the results of a search; both inner products [B, k], best first. 1.0 if k is 0.

    Compares scores, not items, so that any of several items with equal scores counts.
    """
    if exact.size == 0:
        return 1.0
    return float(np.minimum((scores >= exact[:, -1:] - 1e-5).sum(axis=1), exact.shape[1]).mean() / exact.shape[1])


def _add_distinct(index: faiss.Index, vectors: Vectors, rows: Rows, yield_cpu: YieldCpu) -> VectorGroups:
    """Add the distinct vectors of `vectors[rows]` to the index; returns the items of each."""
    deduplicator = VectorDeduplicator()
    for start in range(0, len(rows), ADD_CHUNK):
        chunk = vectors[rows[start : start + ADD_CHUNK]]  # a copy: another thread may change the vectors meanwhile
        index.add(chunk[deduplicator.add(chunk)])
        yield_cpu()
    return deduplicator.groups(rows)


def _exact_scores(graph: faiss.IndexHNSWFlat, queries: Vectors, yield_cpu: YieldCpu) -> Vectors:
    """The `RECALL_K` greatest inner products [B, k] of all vectors in the graph, best first."""
    storage, scores = faiss.downcast_index(graph.storage), list[Vectors]()
    for start in range(0, len(queries), SCAN_CHUNK):
        scores.append(storage.search(queries[start : start + SCAN_CHUNK], min(RECALL_K, graph.ntotal))[0])
        yield_cpu()
    return np.concatenate(scores)


def _hnsw_scores(graph: faiss.IndexHNSWFlat, queries: Vectors, ef_search: int) -> Vectors:
    """As `_exact_scores`, by an HNSW search with this efSearch."""
    parameters = faiss.SearchParametersHNSW()  # type: ignore[attr-defined] # the stubs lack it
    parameters.efSearch = ef_search
    scores: Vectors = graph.search(queries, min(RECALL_K, graph.ntotal), params=parameters)[0]
    return scores
