"""The base of an item index: what FAISS searches. What it holds never changes; another takes its place."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Self

import faiss
import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.retrieval.duplicate_vectors import VectorDeduplicator, VectorGroups, tell
from anabranch.ranking.types import Rows, Vectors, YieldCpu

FLAT_INDEX_MAX_ITEMS = 50_000
"""Items up to which every vector is compared; beyond, a graph of near neighbours is walked (HNSW).

Lists of an inverted file would be as good for queries that lie where items do. Users do not: a tenth of all lists had
to be searched for them, which grows with the catalogue, where a walk hardly does.

Items that read alike have one vector, and a graph has it once: of more than have room among each other's links a walk
finds all or, for it never comes there, none.
"""
M, EF_CONSTRUCTION = 32, 100
"""Links of an item (M), and how broad a walk finds them (efConstruction): more take longer to build and find more."""
RECALL_TARGET, RECALL_AT = 0.97, 100
"""A walk is as broad as finds this share of the exact nearest items."""
BREADTH_AT_FIRST, BROADEST = 200, 400
"""Before any user has come to tune it to, and at most: who lies so far from all items that a broader walk would be
needed must not keep the others waiting."""
SCANNED = 150
"""Vectors that are compared one after the other in the time by which one more of breadth makes a walk longer: a walk
that is as broad as a scan is long is none."""
MAX_DEAD_SHARE = 0.25
"""Share of the graph that may be items that have changed or left: then it is built anew."""
AT_ONCE, SCANNED_AT_ONCE = 512, 8
"""Vectors added, and queries compared with every vector, at a time: between two of these a thread may rest."""


def no_rest() -> None:
    """Work on."""


@dataclass(frozen=True)
class AnnIndex:
    """A FAISS index of vectors, and the items that have each."""

    faiss_index: faiss.Index
    items: VectorGroups

    @classmethod
    def empty(cls, dims: int) -> Self:
        """Finds nothing."""
        return cls(faiss.IndexFlatIP(dims), VectorGroups.singletons(np.empty(0, np.int32)))

    @classmethod
    def build(cls, vectors: Vectors, rows: Rows, between: YieldCpu = no_rest) -> Self:
        """Index `vectors[rows]` of vectors [N, d] and rows [n]. May run in a thread of its own."""
        if len(rows) < FLAT_INDEX_MAX_ITEMS:
            flat = faiss.IndexFlatIP(vectors.shape[1])
            for start in range(0, len(rows), AT_ONCE):
                flat.add(vectors[rows[start : start + AT_ONCE]])
                between()
            return cls(flat, VectorGroups.singletons(rows))
        graph = faiss.IndexHNSWFlat(vectors.shape[1], M, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = EF_CONSTRUCTION
        items = _grown(graph, vectors, rows, between)
        graph.hnsw.efSearch = BREADTH_AT_FIRST
        return cls(graph, items)

    def rebuilt_with(self, vectors: Vectors, kept: NDArray[np.bool_], rows: Rows, between: YieldCpu = no_rest) -> Self:
        """A base of `vectors[rows]` of vectors [N, d] and rows [n], of which this one has those `kept` [N] already.

        A graph is copied and grows, which takes a hundredth of the time, until too much of it is dead. May run in a
        thread of its own, while this one is searched.
        """
        before = self.items.rows
        alive = np.where((before >= 0) & kept[before], before, -1).astype(np.int32)
        more = rows[~kept[rows]]
        dead = (alive < 0).sum() / max(1, len(alive) + len(more))
        if self._graph is not None and len(rows) >= FLAT_INDEX_MAX_ITEMS and dead <= MAX_DEAD_SHARE:
            graph = faiss.clone_index(self.faiss_index)
            added = _grown(graph, vectors, more, between)
            return type(self)(graph, self.items._replace(rows=alive).and_then(added))
        anew = type(self).build(vectors, rows, between)
        if self._graph is not None and anew._graph is not None:
            anew._graph.hnsw.efSearch = self._graph.hnsw.efSearch  # for users whom it has seen
        return anew

    def __len__(self) -> int:
        return len(self.items.rows)

    def search(self, queries: Vectors, k: int, alive: NDArray[np.bool_], more: int = 0) -> tuple[Rows, Vectors]:
        """Rows [B, k] of the greatest inner products with each query [B, d], best first, and those.

        Of items that are `alive` [N] alone; -1, with a product of -inf, where there are no more among the k + `more`
        nearest vectors.
        """
        found, scores = np.full((len(queries), k), -1, np.int32), np.full((len(queries), k), -np.inf, np.float32)
        products, at = self._searched.search(np.ascontiguousarray(queries), k + more)
        tell(at, products, self.items.first, self.items.rows, alive, found, scores)
        return found, scores

    @property
    def ef_search(self) -> int:
        """How broad a walk is (efSearch); 0 where every vector is compared."""
        return 0 if self._graph is None or self._searched is not self._graph else self._graph.hnsw.efSearch

    def recall(self, queries: Vectors, between: YieldCpu = no_rest) -> float:
        """Share of the exact nearest that are found, over queries [B, d]. In any thread."""
        if self._graph is None or not self.ef_search:
            return 1.0
        return recall(_exact(self._graph, queries, between), _walked(self._graph, queries, self.ef_search))

    def tune(self, queries: Vectors, between: YieldCpu = no_rest) -> float:
        """Walk no broader than finds the target's share for queries [B, d] such as these, from now on; their recall.

        Where a scan would be as fast, every vector is compared. In any thread, while others search. Recall grows with
        the breadth.
        """
        graph = self._graph
        if graph is None:
            return 1.0
        exact = _exact(graph, queries, between)

        def share(ef_search: int) -> float:
            between()
            return recall(exact, _walked(graph, queries, ef_search))

        def reached(ef_search: int) -> bool:
            return share(ef_search) >= RECALL_TARGET

        broadest = min(BROADEST, self._scan)
        enough = RECALL_AT
        while enough < broadest and not reached(enough):
            enough = min(2 * enough, broadest)
        narrowest = RECALL_AT if enough == RECALL_AT else enough // 2 + 1
        ef_search = bisect_left(range(enough), True, lo=narrowest, key=reached)
        found = share(ef_search)
        graph.hnsw.efSearch = ef_search if found >= RECALL_TARGET else broadest + (broadest == self._scan)
        return found if self.ef_search else 1.0

    @property
    def _graph(self) -> faiss.IndexHNSWFlat | None:
        return self.faiss_index if isinstance(self.faiss_index, faiss.IndexHNSWFlat) else None

    @property
    def _scan(self) -> int:
        """How broad a walk is that takes as long as comparing every vector."""
        return self.faiss_index.ntotal // SCANNED

    @property
    def _searched(self) -> faiss.Index:
        graph = self._graph
        if graph is None or graph.hnsw.efSearch <= self._scan:
            return self.faiss_index
        return faiss.downcast_index(graph.storage)


def recall(exact: Vectors, found: Vectors) -> float:
    """Share of the exact best that was found, both inner products [B, k], best first; 1.0 for none.

    By score: of items that are equally near, any will do.
    """
    if exact.size == 0:
        return 1.0
    return float(np.minimum((found >= exact[:, -1:] - 1e-5).sum(axis=1), exact.shape[1]).mean() / exact.shape[1])


def _grown(graph: faiss.Index, vectors: Vectors, rows: Rows, between: YieldCpu) -> VectorGroups:
    """Add `vectors[rows]` to the graph, each that is new among them; which items have which."""
    grouping = VectorDeduplicator()
    for start in range(0, len(rows), AT_ONCE):
        some = vectors[rows[start : start + AT_ONCE]]  # a copy: they may change before another look
        graph.add(some[grouping.add(some)])
        between()
    return grouping.of(rows)


def _exact(graph: faiss.IndexHNSWFlat, queries: Vectors, between: YieldCpu) -> Vectors:
    """The greatest inner products, best first, of all vectors that the graph has."""
    storage, scores = faiss.downcast_index(graph.storage), list[Vectors]()
    for start in range(0, len(queries), SCANNED_AT_ONCE):
        scores.append(storage.search(queries[start : start + SCANNED_AT_ONCE], min(RECALL_AT, graph.ntotal))[0])
        between()
    return np.concatenate(scores)


def _walked(graph: faiss.IndexHNSWFlat, queries: Vectors, ef_search: int) -> Vectors:
    """As `_exact`, those that a walk of this breadth finds."""
    parameters = faiss.SearchParametersHNSW()  # type: ignore[attr-defined] # the stubs lack it
    parameters.efSearch = ef_search
    scores: Vectors = graph.search(queries, min(RECALL_AT, graph.ntotal), params=parameters)[0]
    return scores
