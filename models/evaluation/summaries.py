"""Metrics of a benchmark in the form in which results are stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from anabranch.placements import Placement
from models.evaluation.slices import placement_events
from models.metrics.bootstrap import Interval, paired_interval
from models.metrics.ranking import Gains, Ranks, discounted_gains, hits, mrr_at, ndcg_at, recall_at

CUTOFFS = (5, 10, 20)


class Quality(Struct, frozen=True, kw_only=True):
    """Metrics of one ranker on M events, by cutoff k. With one relevant item, recall@k equals the P@k of papers on
    session-based recommendation."""

    events: int
    recall: dict[int, float]
    ndcg: dict[int, float]
    mrr: dict[int, float]

    @classmethod
    def from_ranks(cls, ranks: Ranks) -> Quality:
        """Metrics of ranks [M]; 0 without events."""
        return cls(
            events=len(ranks),
            recall={k: recall_at(ranks, k) for k in CUTOFFS},
            ndcg={k: ndcg_at(ranks, k) for k in CUTOFFS},
            mrr={k: mrr_at(ranks, k) for k in CUTOFFS},
        )


class ImprovementByCutoff(Struct, frozen=True, kw_only=True):
    """One ranker minus another on the same events, with 95 % intervals over users."""

    recall_at_10: Interval
    recall_at_20: Interval
    ndcg_at_10: Interval
    ndcg_at_20: Interval


def improvement_by_cutoff(ranks: Ranks, baseline: Ranks, user: NDArray[np.integer]) -> ImprovementByCutoff:
    """The improvement of `ranks` [M] over `baseline` [M]. Raises `ValueError` without events."""

    def interval(gains: Gains, baseline_gains: Gains) -> Interval:
        return paired_interval(gains, baseline_gains, user)

    return ImprovementByCutoff(
        recall_at_10=interval(hits(ranks, 10), hits(baseline, 10)),
        recall_at_20=interval(hits(ranks, 20), hits(baseline, 20)),
        ndcg_at_10=interval(discounted_gains(ranks, 10), discounted_gains(baseline, 10)),
        ndcg_at_20=interval(discounted_gains(ranks, 20), discounted_gains(baseline, 20)),
    )


def quality_by_slice(ranks: Ranks, slices: Mapping[str, NDArray[np.bool_]]) -> dict[str, Quality]:
    """Metrics of every slice that has an event."""
    return {name: Quality.from_ranks(ranks[mask]) for name, mask in slices.items() if mask.any()}


def quality_by_placement(
    ranks: Ranks, placements: Sequence[Placement], repeat: NDArray[np.bool_]
) -> dict[str, Quality]:
    """Metrics of each placement on the events that it is for, by its name, from the ranks [M, P] on their slates;
    `repeat` [M] marks the events whose user had the item before."""
    return {
        placement.name: Quality.from_ranks(ranks[placement_events(placement, repeat), number])
        for number, placement in enumerate(placements)
    }
