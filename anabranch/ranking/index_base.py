"""The base of an item index: what FAISS searches. It never changes; another takes its place."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Self

import faiss
import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.item_ids import Rows

Vectors = NDArray[np.float32]

EXACT_BELOW = 50_000
"""Items up to which every vector is compared; beyond, a graph of near neighbours is walked (HNSW).

Lists of an inverted file would be as good for queries that lie where items do. Users do not: a tenth of all lists had
to be searched for them, which grows with the catalogue, where a walk hardly does.
"""
LINKS, BREADTH_BUILT = 32, 100
"""Links of an item (M), and how broad a walk finds them (efConstruction): more take longer to build and find more."""
RECALL_TARGET, RECALL_AT = 0.97, 100
"""A walk is as broad as finds this share of the exact nearest items."""
BREADTH_AT_FIRST, BROADEST = 200, 4096
"""Before any user has come to tune it to, and at most."""
MOST_DEAD = 0.25
"""Share of the graph that may be vectors of items that have changed or left: then it is built anew."""
AT_ONCE = 8_192
"""Vectors copied at a time: what is built in a thread leaves the others their turn, even where it gets little time."""


@dataclass(frozen=True)
class Base:
    """A FAISS index; `rows` [n] are the item rows at its own positions, -1 where a vector is no item's any more."""

    faiss_index: faiss.Index
    rows: Rows

    @classmethod
    def empty(cls, dims: int) -> Self:
        """Finds nothing."""
        return cls(faiss.IndexFlatIP(dims), np.empty(0, np.int32))

    @classmethod
    def of(cls, vectors: Vectors, rows: Rows) -> Self:
        """Index `vectors[rows]` of vectors [N, d] and rows [n]. May run in a thread of its own."""
        if len(rows) < EXACT_BELOW:
            flat = faiss.IndexFlatIP(vectors.shape[1])
            _add(flat, vectors, rows)
            return cls(flat, rows)
        graph = faiss.IndexHNSWFlat(vectors.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = BREADTH_BUILT
        _add(graph, vectors, rows)
        graph.hnsw.efSearch = BREADTH_AT_FIRST
        return cls(graph, rows)

    def renewed(self, vectors: Vectors, kept: NDArray[np.bool_], rows: Rows) -> Self:
        """A base of `vectors[rows]` of vectors [N, d] and rows [n], of which this one has those `kept` [N] already.

        A graph is copied and grows, which takes a hundredth of the time, until too much of it is dead. May run in a
        thread of its own, while this one is searched.
        """
        alive = np.where((self.rows >= 0) & kept[self.rows], self.rows, -1)
        more = rows[~kept[rows]]
        if self.breadth and len(rows) >= EXACT_BELOW and (alive < 0).sum() <= MOST_DEAD * (len(alive) + len(more)):
            grown = faiss.clone_index(self.faiss_index)
            _add(grown, vectors, more)
            return type(self)(grown, np.concatenate([alive, more]).astype(np.int32))
        anew = type(self).of(vectors, rows)
        if self.breadth and isinstance(anew.faiss_index, faiss.IndexHNSWFlat):
            anew.faiss_index.hnsw.efSearch = self.breadth  # for users whom it has seen
        return anew

    def __len__(self) -> int:
        return len(self.rows)

    def search(self, queries: Vectors, k: int) -> tuple[Rows, Vectors]:
        """Rows [B, k] of the greatest inner products with each query [B, d], best first, and those.

        -1 where a vector is no item's any more, and, with a product of -inf, where there are no more.
        """
        scores, at = self.faiss_index.search(np.ascontiguousarray(queries), k)
        found = at >= 0
        return np.where(found, self.rows[at], -1).astype(np.int32), np.where(found, scores, -np.inf)

    @property
    def breadth(self) -> int:
        """How broad a walk is (efSearch); 0 where every vector is compared."""
        return self.faiss_index.hnsw.efSearch if isinstance(self.faiss_index, faiss.IndexHNSWFlat) else 0

    def recall(self, queries: Vectors) -> float:
        """Share of the exact nearest that are found, over queries [B, d]. In any thread."""
        graph = self.faiss_index
        if not isinstance(graph, faiss.IndexHNSWFlat):
            return 1.0
        return recall(_exact(graph, queries), _walked(graph, queries, graph.hnsw.efSearch))

    def tune(self, queries: Vectors) -> float:
        """Walk no broader than finds the target's share for queries [B, d] such as these, from now on; their recall.

        In any thread, while others search. Recall grows with the breadth.
        """
        graph = self.faiss_index
        if not isinstance(graph, faiss.IndexHNSWFlat):
            return 1.0
        exact = _exact(graph, queries)

        def share(breadth: int) -> float:
            return recall(exact, _walked(graph, queries, breadth))

        def reached(breadth: int) -> bool:
            return share(breadth) >= RECALL_TARGET

        enough = RECALL_AT
        while enough < BROADEST and not reached(enough):
            enough = min(2 * enough, BROADEST)
        narrowest = RECALL_AT if enough == RECALL_AT else enough // 2 + 1
        graph.hnsw.efSearch = bisect_left(range(enough), True, lo=narrowest, key=reached)
        return share(graph.hnsw.efSearch)


def recall(exact: Vectors, found: Vectors) -> float:
    """Share of the exact best that was found, both inner products [B, k], best first; 1.0 for none.

    By score: of items that are equally near, any will do.
    """
    if exact.size == 0:
        return 1.0
    return float(np.minimum((found >= exact[:, -1:] - 1e-5).sum(axis=1), exact.shape[1]).mean() / exact.shape[1])


def _add(index: faiss.Index, vectors: Vectors, rows: Rows) -> None:
    for start in range(0, len(rows), AT_ONCE):
        index.add(vectors[rows[start : start + AT_ONCE]])


def _exact(graph: faiss.IndexHNSWFlat, queries: Vectors) -> Vectors:
    """The greatest inner products, best first, of all vectors that the graph has."""
    scores: Vectors = faiss.downcast_index(graph.storage).search(queries, min(RECALL_AT, graph.ntotal))[0]
    return scores


def _walked(graph: faiss.IndexHNSWFlat, queries: Vectors, breadth: int) -> Vectors:
    """As `_exact`, those that a walk of this breadth finds."""
    parameters = faiss.SearchParametersHNSW()  # type: ignore[attr-defined] # the stubs lack it
    parameters.efSearch = breadth
    scores: Vectors = graph.search(queries, min(RECALL_AT, graph.ntotal), params=parameters)[0]
    return scores
