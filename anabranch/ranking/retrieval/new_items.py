"""New items: those whose popularity is not known yet, so that only their texts speak for them."""

from __future__ import annotations

import numpy as np

from anabranch.ranking.retrieval.co_visit_table import UNPOPULAR, CoVisitRows
from anabranch.ranking.retrieval.item_index import ItemIndex
from anabranch.ranking.types import Rows, Vectors

MOST_COMPARED = 1_000
"""New items that a query is compared with, of more those of the highest rows, which were named last. A catalogue may
hold many items that nobody ever wanted."""


def nearest_new_items(index: ItemIndex, co_visits: CoVisitRows, queries: Vectors, k: int) -> Rows:
    """The k new items of greatest inner product with each of B queries [B, d], best first; of fewer, all [B, <= k].

    An item is new until its popularity is published, which is once `min_pair_users` users had an event about it.
    """
    if k == 0:
        return np.empty((len(queries), 0), np.int32)
    is_new = index.columns.servable.copy()
    log_popularity = co_visits.columns.log_popularity[: len(is_new)]
    is_new[: len(log_popularity)] &= log_popularity <= UNPOPULAR
    rows = np.flatnonzero(is_new)[-MOST_COMPARED:].astype(np.int32)
    products = queries @ index.columns.vectors[rows].T  # [B, n]
    nearest = (
        np.argpartition(-products, k, axis=1)[:, :k]
        if k < len(rows)
        else np.tile(np.arange(len(rows)), (len(queries), 1))
    )
    order = np.argsort(-np.take_along_axis(products, nearest, axis=1), axis=1, kind="stable")
    return rows[np.take_along_axis(nearest, order, axis=1)]
