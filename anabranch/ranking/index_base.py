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
"""Items up to which every vector is compared; beyond, those in the lists nearest to a query (an inverted file, IVF)."""
LISTS_BY_ROOT = 2
"""Lists of the inverted file, against the square root of the number of items."""
RECALL_TARGET, RECALL_AT = 0.98, 100
"""As many lists are searched as find this share of the exact nearest items."""
SAMPLE = 256
"""Queries the recall is taken over."""
POINTS_A_LIST = 64
"""Vectors a list's centre is learned from: more take longer and find nothing more."""
RELEARN_AT = 2.0
"""The centres are learned anew when there are so many times more items, or fewer."""
AT_ONCE = 65_536
"""Vectors copied at a time: what is built in a thread leaves the others their turn."""


@dataclass(frozen=True)
class Centres:
    """Where the lists of an inverted file lie, learned from so many items."""

    quantiser: faiss.IndexFlatIP
    items: int

    def fit(self, items: int) -> bool:
        """Whether they still suit so many."""
        return 1 / RELEARN_AT < self.items / items < RELEARN_AT


@dataclass(frozen=True)
class Base:
    """A FAISS index; `rows` [n] are the item rows at its own positions. `centres` are those of an inverted file."""

    faiss_index: faiss.Index
    rows: Rows
    centres: Centres | None = None

    @classmethod
    def empty(cls, dims: int) -> Self:
        """Finds nothing."""
        return cls(faiss.IndexFlatIP(dims), np.empty(0, np.int32))

    @classmethod
    def of(cls, vectors: Vectors, rows: Rows, before: Self | None = None) -> Self:
        """Index `vectors[rows]` of vectors [N, d] and rows [n], by the centres of the base `before` if they still fit.

        May run in a thread of its own.
        """
        if len(rows) < EXACT_BELOW:
            flat = faiss.IndexFlatIP(vectors.shape[1])
            _add(flat, vectors, rows)
            return cls(flat, rows)
        centres = None if before is None else before.centres
        if centres is None or not centres.fit(len(rows)):
            centres = _learned(vectors, rows)
        inverted = _inverted(centres.quantiser)
        _add(inverted, vectors, rows)
        _tune(inverted, vectors, rows)
        return cls(inverted, rows, centres)

    def __len__(self) -> int:
        return len(self.rows)

    def search(self, queries: Vectors, k: int) -> tuple[Rows, Vectors]:
        """Rows [B, k] of the greatest inner products with each query [B, d], best first, -1 padded, and those."""
        scores, at = self.faiss_index.search(np.ascontiguousarray(queries), k)
        return np.where(at >= 0, self.rows[at], -1).astype(np.int32), scores

    def widen(self) -> None:
        """Search twice as many lists from now on: the recall was found too low."""
        if isinstance(self.faiss_index, faiss.IndexIVFFlat):
            self.faiss_index.nprobe = min(2 * self.faiss_index.nprobe, self.faiss_index.nlist)


def greatest(queries: Vectors, vectors: Vectors, rows: NDArray[np.integer], k: int) -> Vectors:
    """The k greatest inner products of each query [B, d] with `vectors[rows]`, best first, [B, min(k, n)]."""
    best = np.empty((len(queries), 0), np.float32)
    for start in range(0, len(rows), AT_ONCE):
        scores = np.concatenate([best, queries @ vectors[rows[start : start + AT_ONCE]].T], axis=1)
        best = -np.partition(-scores, k - 1, axis=1)[:, :k] if k < scores.shape[1] else scores
    return -np.sort(-best, axis=1)


def recall(exact: Vectors, found: Vectors) -> float:
    """Share of the exact best that was found, both inner products [B, k], best first; 1.0 for none.

    By score: of items that are equally near, any will do.
    """
    if exact.size == 0:
        return 1.0
    return float(np.minimum((found >= exact[:, -1:] - 1e-5).sum(axis=1), exact.shape[1]).mean() / exact.shape[1])


def _learned(vectors: Vectors, rows: Rows) -> Centres:
    """Lists that lie where the vectors do.

    Johnson, Douze and Jégou, Billion-scale similarity search with GPUs, IEEE Transactions on Big Data 2021.
    """
    dims, lists = vectors.shape[1], int(LISTS_BY_ROOT * np.sqrt(len(rows)))
    means = faiss.Kmeans(dims, lists, niter=10, seed=0, spherical=True, max_points_per_centroid=POINTS_A_LIST)
    sample = np.random.default_rng(0).choice(rows, min(len(rows), POINTS_A_LIST * lists), replace=False)
    means.train(vectors[sample])
    quantiser = faiss.IndexFlatIP(dims)
    assert means.centroids is not None, "they are learned by now"
    quantiser.add(means.centroids)
    return Centres(quantiser, len(rows))


def _inverted(quantiser: faiss.IndexFlatIP) -> faiss.IndexIVFFlat:
    """With nothing in its lists. FAISS takes a quantiser that knows its centres for trained."""
    return faiss.IndexIVFFlat(quantiser, quantiser.d, quantiser.ntotal, faiss.METRIC_INNER_PRODUCT)


def _add(index: faiss.Index, vectors: Vectors, rows: Rows) -> None:
    for start in range(0, len(rows), AT_ONCE):
        index.add(vectors[rows[start : start + AT_ONCE]])


def _tune(inverted: faiss.IndexIVFFlat, vectors: Vectors, rows: Rows) -> None:
    """Search the fewest lists that reach the recall, as recall grows with them.

    The queries are items as far off as users are: each beside as much noise.
    """
    random = np.random.default_rng(0)
    noise = random.normal(size=(SAMPLE, inverted.d)).astype(np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    near = vectors[random.choice(rows, SAMPLE)]
    queries = near + noise * np.linalg.norm(near, axis=1, keepdims=True)
    exact = greatest(queries, vectors, rows, RECALL_AT)

    def reached(lists: int) -> bool:
        inverted.nprobe = lists
        return recall(exact, inverted.search(queries, RECALL_AT)[0]) >= RECALL_TARGET

    enough = 1
    while enough < inverted.nlist and not reached(enough):
        enough = min(2 * enough, inverted.nlist)
    inverted.nprobe = bisect_left(range(enough), True, lo=enough // 2 + 1, key=reached)
