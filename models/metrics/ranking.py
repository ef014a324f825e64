"""How good slates were, from the rank at which the event's item stood. Every event has one item: the next one.

With a single relevant item, recall and hit rate are the same number, and precision and F1 are multiples of it;
all are here because readers look for their own. Definitions: Järvelin & Kekäläinen (2002) for NDCG, Voorhees
(1999) for MRR.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Ranks = NDArray[np.int32]
"""[N] place of the event's item on its slate, 1 the top; below 1 where it was not on it."""
Gains = NDArray[np.float64]
"""[N] what one event adds to a metric; the metric is their mean."""


def hits(ranks: Ranks, k: int) -> Gains:
    """1 where the item stood in the top k."""
    return ((ranks >= 1) & (ranks <= k)).astype(np.float64)


def discounted_gains(ranks: Ranks, k: int) -> Gains:
    """1 / log2(1 + rank) in the top k; the ideal slate gains 1, so this is NDCG's."""
    return hits(ranks, k) / np.log2(np.maximum(ranks, 1) + 1.0)


def reciprocal_ranks(ranks: Ranks, k: int) -> Gains:
    """1 / rank in the top k."""
    return hits(ranks, k) / np.maximum(ranks, 1)


def recall_at(ranks: Ranks, k: int) -> float:
    """Share of events whose item stood in the top k. 0 without events, as are all the others."""
    return _mean(hits(ranks, k))


def hit_rate_at(ranks: Ranks, k: int) -> float:
    """Share of slates with a hit: the same as recall, for one relevant item."""
    return recall_at(ranks, k)


def precision_at(ranks: Ranks, k: int) -> float:
    """Share of the k places that held the event's item."""
    return recall_at(ranks, k) / k


def f1_at(ranks: Ranks, k: int) -> float:
    """Mean over events of the harmonic mean of precision and recall: 2 / (k + 1) for a hit."""
    return recall_at(ranks, k) * 2 / (k + 1)


def accuracy(ranks: Ranks) -> float:
    """Share of events whose item stood at the very top."""
    return recall_at(ranks, 1)


def ndcg_at(ranks: Ranks, k: int) -> float:
    """Normalised discounted cumulative gain."""
    return _mean(discounted_gains(ranks, k))


def mrr_at(ranks: Ranks, k: int) -> float:
    """Mean reciprocal rank, 0 for items below k."""
    return _mean(reciprocal_ranks(ranks, k))


def coverage_at(slates: Iterable[NDArray[np.integer]], items: int, k: int) -> float:
    """Share of `items` in the catalogue that stood in the top k of any slate [B, ≥ k], -1 padded."""
    shown: set[int] = set()
    for slate in slates:
        shown.update(np.unique(slate[:, :k]).tolist())
    return len(shown - {-1}) / items if items else 0.0


def _mean(gains: Gains) -> float:
    return float(gains.mean()) if len(gains) else 0.0
