"""What is told of a measured benchmark, as JSON values."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.metrics.bootstrap import Interval, paired_interval
from models.metrics.ranking import Gains, Ranks, discounted_gains, hits, mrr_at, ndcg_at, recall_at

PLACES = (5, 10, 20)


class Quality(Struct, frozen=True, kw_only=True):
    """One ranker on M events. With one item wanted of each slate, recall@k is what session papers call P@k."""

    events: int
    recall: dict[int, float]
    """By k."""
    ndcg: dict[int, float]
    mrr: dict[int, float]

    @classmethod
    def of(cls, ranks: Ranks) -> Quality:
        return cls(
            events=len(ranks),
            recall={k: recall_at(ranks, k) for k in PLACES},
            ndcg={k: ndcg_at(ranks, k) for k in PLACES},
            mrr={k: mrr_at(ranks, k) for k in PLACES},
        )


class Lead(Struct, frozen=True, kw_only=True):
    """One ranker minus another on the same events, with 95 % intervals over users."""

    recall_at_10: Interval
    recall_at_20: Interval
    ndcg_at_10: Interval
    ndcg_at_20: Interval


def lead(ours: Ranks, theirs: Ranks, user: NDArray[np.integer]) -> Lead:
    """Raises `ValueError` without events."""

    def interval(gains: Gains, others: Gains) -> Interval:
        return paired_interval(gains, others, user)

    return Lead(
        recall_at_10=interval(hits(ours, 10), hits(theirs, 10)),
        recall_at_20=interval(hits(ours, 20), hits(theirs, 20)),
        ndcg_at_10=interval(discounted_gains(ours, 10), discounted_gains(theirs, 10)),
        ndcg_at_20=interval(discounted_gains(ours, 20), discounted_gains(theirs, 20)),
    )


def by_slice(ranks: Ranks, slices: Mapping[str, NDArray[np.bool_]]) -> dict[str, Quality]:
    """Of the slices that hold any event."""
    return {name: Quality.of(ranks[where]) for name, where in slices.items() if where.any()}
