"""Ranking metrics, from the rank of the event's item on the slate. Every event has one relevant item: the next one.

With a single relevant item, recall equals the hit rate, and precision and F1 are multiples of it; all are provided
because readers look for their own. Definitions: Järvelin & Kekäläinen (2002) for NDCG, Voorhees (1999) for MRR.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Ranks = NDArray[np.int32]
"""[N], rank of the event's item on its slate from 1 (the top); below 1 if it was not on the slate."""
Gains = NDArray[np.float64]
"""[N], what each event contributes to a metric; the metric is their mean."""


def hits(ranks: Ranks, k: int) -> Gains:
    """1 if the item was in the top k, else 0."""
    return ((ranks >= 1) & (ranks <= k)).astype(np.float64)


def discounted_gains(ranks: Ranks, k: int) -> Gains:
    """1 / log2(1 + rank) in the top k. The ideal slate has gain 1, so the mean is NDCG."""
    return hits(ranks, k) / np.log2(np.maximum(ranks, 1) + 1.0)


def reciprocal_ranks(ranks: Ranks, k: int) -> Gains:
    """1 / rank in the top k, else 0."""
    return hits(ranks, k) / np.maximum(ranks, 1)


def recall_at(ranks: Ranks, k: int) -> float:
    """Share of events whose item was in the top k. This and all other metrics are 0 without events."""
    return _mean(hits(ranks, k))


def hit_rate_at(ranks: Ranks, k: int) -> float:
    """Share of slates with a hit; equal to recall for one relevant item."""
    return recall_at(ranks, k)


def precision_at(ranks: Ranks, k: int) -> float:
    """Share of the k slate positions with the event's item."""
    return recall_at(ranks, k) / k


def f1_at(ranks: Ranks, k: int) -> float:
    """Mean over events of the harmonic mean of precision and recall: 2 / (k + 1) for a hit."""
    return recall_at(ranks, k) * 2 / (k + 1)


def accuracy(ranks: Ranks) -> float:
    """Share of events whose item was at rank 1."""
    return recall_at(ranks, 1)


def ndcg_at(ranks: Ranks, k: int) -> float:
    """Normalised discounted cumulative gain."""
    return _mean(discounted_gains(ranks, k))


def mrr_at(ranks: Ranks, k: int) -> float:
    """Mean reciprocal rank; items below rank k count 0."""
    return _mean(reciprocal_ranks(ranks, k))


def coverage_at(slates: Iterable[NDArray[np.integer]], items: int, k: int) -> float:
    """Share of the catalogue's `items` that were in the top k of any slate; batches of slates [B, ≥ k], -1 padded."""
    covered: set[int] = set()
    for slate in slates:
        covered.update(np.unique(slate[:, :k]).tolist())
    return len(covered - {-1}) / items if items else 0.0


def _mean(gains: Gains) -> float:
    return float(gains.mean()) if len(gains) else 0.0
