"""How varied slates are, and how near their categories are to those of their users."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from anabranch.ranking.pipeline.varied_candidates import SMOOTHING
from anabranch.ranking.retrieval.item_attributes import NO_NAME
from anabranch.ranking.types import Hashes


class SlateVariety(Struct, frozen=True, kw_only=True):
    """Means over slates that have an item with a category; items without one do not count."""

    slates: int
    categories: float
    """Different categories of a slate."""
    largest: float
    """Share of a slate that its most frequent category has."""
    divergence: float
    """KL(p, q), in nats, of the shares of categories in the user's history and the smoothed ones of the slate (Steck,
    Calibrated recommendations, RecSys 2018); 0: the same. Of users with a history."""

    @classmethod
    def of_slates(cls, slates: Hashes, histories: Hashes) -> SlateVariety:
        """From the categories [n, k] of the items of slates and [n, H] of their users' histories, `NO_NAME` padded."""
        rows = list(_shares(slates, histories))
        divergences = [divergence for _, _, divergence in rows if divergence is not None]
        return cls(
            slates=len(rows),
            categories=_mean([categories for categories, _, _ in rows]),
            largest=_mean([largest for _, largest, _ in rows]),
            divergence=_mean(divergences),
        )


def _shares(slates: Hashes, histories: Hashes) -> Iterator[tuple[int, float, float | None]]:
    """The number of categories, the largest share and the divergence of each slate that has a category."""
    for slate, history in zip(slates, histories, strict=True):
        categories, counts = np.unique(slate[slate != NO_NAME], return_counts=True)
        if len(counts):
            yield len(counts), float(counts.max() / counts.sum()), _divergence(categories, counts, history)


def _divergence(categories: Hashes, counts: NDArray[np.int64], history: Hashes) -> float | None:
    liked, events = np.unique(history[history != NO_NAME], return_counts=True)
    if not len(liked):
        return None
    p, on_slate = events / events.sum(), np.zeros(len(liked))
    position = np.minimum(np.searchsorted(categories, liked), len(categories) - 1)
    is_there = categories[position] == liked
    on_slate[is_there] = counts[position[is_there]] / counts.sum()
    return float((p * np.log(p / ((1 - SMOOTHING) * on_slate + SMOOTHING * p))).sum())


def _mean(values: list[float] | list[int]) -> float:
    return float(np.mean(values)) if values else 0.0
