"""New items: those of which the co-visit table knows no event yet, so that only their texts speak for them."""

from __future__ import annotations

import numpy as np

from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.retrieval.item_index import ItemIndex
from anabranch.ranking.types import Rows, Vectors

MOST_COMPARED = 1_000
"""New items that a query is compared with, of more those of the highest rows, which were named last. A catalogue may
hold many items that nobody ever wanted."""


def nearest_new_items(index: ItemIndex, co_visits: CoVisitRows, queries: Vectors, k: int) -> Rows:
    """The k new items of greatest inner product with each of B queries [B, d], best first; of fewer, all [B, <= k].

    An item is new until the co-visit table has its first event, which is published once `min_pair_users` users had one.
    """
    if k == 0:
        return np.empty((len(queries), 0), np.int32)
    is_new = index.columns.servable.copy()
    first_seen = co_visits.columns.first_seen[: len(is_new)]
    is_new[: len(first_seen)] &= first_seen < 0
    rows = np.flatnonzero(is_new)[-MOST_COMPARED:].astype(np.int32)
    products = queries @ index.columns.vectors[rows].T  # [B, n]
    return rows[np.argsort(-products, axis=1, kind="stable")[:, :k]]
