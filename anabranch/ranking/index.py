"""The item index of one release: an immutable FAISS base, a small exact delta, and tombstones."""

from __future__ import annotations

from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.item_ids import Rows

Vectors = NDArray[np.float32]

EXACT_BELOW = 200_000
"""Items up to which the base is searched exactly; above, an inverted file (IVF) is, one list in 16 of it."""
REBUILD_SHARE = 0.05
"""The base is due for a rebuild when this share of it has changed."""


@dataclass(frozen=True)
class Base:
    """What FAISS searches: `rows` [n] are the item rows at FAISS's own positions."""

    faiss_index: faiss.Index
    rows: Rows


class ItemIndex:
    """Finds the items with the greatest inner product, and holds each item's vector by row.

    A change goes to the delta at once and is found by the next search; `rebuild` folds it into the base.
    """

    def __init__(self, dims: int) -> None:
        self.dims = dims
        self._vectors: Vectors = np.zeros((1024, dims), np.float32)
        self._known: NDArray[np.bool_] = np.zeros(1024, np.bool_)
        self._servable: NDArray[np.bool_] = np.zeros(1024, np.bool_)
        self._in_base: NDArray[np.bool_] = np.zeros(1024, np.bool_)
        self._delta: dict[int, None] = {}
        self._stale = 0
        self._base = Base(faiss.IndexFlatIP(dims), np.empty(0, np.int32))

    def __len__(self) -> int:
        return int(self._known.sum())

    def upsert(self, rows: Rows, vectors: Vectors, available: NDArray[np.bool_]) -> None:
        """Set the vectors [n, d] of rows [n]; an item that is not available is known but never found."""
        if len(rows) == 0:
            return
        self._reserve(int(rows.max()) + 1)
        self._leave_base(rows)
        self._vectors[rows] = vectors
        self._known[rows] = True
        self._servable[rows] = available
        self._delta.update(dict.fromkeys(rows.tolist()))

    def remove(self, rows: Rows) -> None:
        """Forget the items; the next search no longer finds them."""
        rows = rows[rows < len(self._known)]
        self._leave_base(rows)
        self._known[rows] = False
        self._servable[rows] = False
        for row in rows.tolist():
            self._delta.pop(row, None)

    def known(self, rows: Rows) -> NDArray[np.bool_]:
        """Which rows have a vector, in the shape of `rows`; False for -1."""
        return self._flag(self._known, rows)

    def servable(self, rows: Rows) -> NDArray[np.bool_]:
        """Which rows have a vector and are available, in the shape of `rows`; False for -1."""
        return self._flag(self._servable, rows)

    def vectors(self, rows: Rows) -> Vectors:
        """Vectors [..., d] of known rows [...]."""
        return self._vectors[rows]

    def search(self, queries: Vectors, k: int) -> tuple[Rows, Vectors]:
        """The k servable items of greatest inner product with each query [B, d].

        Returns rows [B, k], best first, -1 padded, and their inner products [B, k].
        """
        rows, scores = self._search_base(queries, k)
        delta = np.fromiter(self._delta, np.int32, len(self._delta))
        delta = delta[self._servable[delta]]
        if len(delta):
            rows = np.concatenate([rows, np.broadcast_to(delta, (len(queries), len(delta)))], axis=1)
            scores = np.concatenate([scores, queries @ self._vectors[delta].T], axis=1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        rows, scores = np.take_along_axis(rows, best, axis=1), np.take_along_axis(scores, best, axis=1)
        return np.where(np.isneginf(scores), -1, rows).astype(np.int32), scores

    def search_exact(self, queries: Vectors, k: int) -> Rows:
        """Rows [B, k] of a search over every servable vector: the reference for `recall`."""
        rows = np.flatnonzero(self._servable).astype(np.int32)
        scores = queries @ self._vectors[rows].T
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return rows[best]

    def recall(self, queries: Vectors, k: int) -> float:
        """Share of the exact top k that `search` finds, over the queries [B, d]; 1.0 for an empty index."""
        exact, found = self.search_exact(queries, k), self.search(queries, k)[0]
        if exact.size == 0:
            return 1.0
        hits = sum(len(np.intersect1d(one, other)) for one, other in zip(exact, found, strict=True))
        return hits / exact.size

    @property
    def needs_rebuild(self) -> bool:
        """Whether so much has changed since the base was built that a rebuild pays."""
        return len(self._delta) + self._stale > max(1024, REBUILD_SHARE * len(self._base.rows))

    def rebuild(self) -> None:
        """Fold delta and tombstones into a new base."""
        rows = np.flatnonzero(self._servable).astype(np.int32)
        self._base = Base(searchable(self._vectors[rows]), rows)
        self._in_base[:] = False
        self._in_base[rows] = True
        self._delta.clear()
        self._stale = 0

    def _search_base(self, queries: Vectors, k: int) -> tuple[Rows, Vectors]:
        wanted = min(k + self._stale, len(self._base.rows))
        if wanted == 0:
            return np.empty((len(queries), 0), np.int32), np.empty((len(queries), 0), np.float32)
        scores, at = self._base.faiss_index.search(np.ascontiguousarray(queries), wanted)
        rows = self._base.rows[at]
        return rows, np.where((at >= 0) & self._in_base[rows], scores, -np.inf)

    def _leave_base(self, rows: Rows) -> None:
        self._stale += int(self._in_base[rows].sum())
        self._in_base[rows] = False

    def _flag(self, flags: NDArray[np.bool_], rows: Rows) -> NDArray[np.bool_]:
        inside = (rows >= 0) & (rows < len(flags))
        return inside & flags[np.where(inside, rows, 0)]

    def _reserve(self, capacity: int) -> None:
        short = capacity - len(self._known)
        if short <= 0:
            return
        more = max(short, len(self._known))
        self._vectors = np.concatenate([self._vectors, np.zeros((more, self.dims), np.float32)])
        self._known, self._servable, self._in_base = (
            np.concatenate([flags, np.zeros(more, np.bool_)]) for flags in (self._known, self._servable, self._in_base)
        )


def searchable(vectors: Vectors) -> faiss.Index:
    """Vectors [n, d] for FAISS to search by inner product, exactly while they are few."""
    n, dims = vectors.shape
    flat = faiss.IndexFlatIP(dims)
    if n < EXACT_BELOW:
        flat.add(vectors)
        return flat
    lists = int(4 * np.sqrt(n))
    inverted = faiss.IndexIVFFlat(flat, dims, lists, faiss.METRIC_INNER_PRODUCT)
    inverted.train(vectors)
    inverted.add(vectors)
    inverted.nprobe = max(1, lists // 16)
    return inverted
