"""How co-visit shares become one score per item: for the served features, the seed model and the baseline alike."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class CoVisitScoring(Struct, frozen=True, kw_only=True):
    """The score of an item j for a user whose newest items are i₀, i₁, …, newest first:

        Σ decayⁿ · (share of j among the co-visits of iₙ, plus `own_share` if j is iₙ), n from 0 to `recent` - 1

    A release's list ranker learns from these scores, so the release records by which rule. The defaults are the rule of
    releases that recorded none.
    """

    recent: Annotated[int, Meta(ge=1)] = 10
    """The user's newest items whose neighbours count."""
    decay: Annotated[float, Meta(gt=0, le=1)] = 0.5**0.5
    """Weight of an item relative to the next newer one."""
    own_share: Annotated[float, Meta(ge=0)] = 0.0
    """Share of an item among its own co-visits, for users who return to items that they have just seen. It is the same
    for every item: few visits of an item tell little about who returns to it."""

    @property
    def weights(self) -> list[float]:
        """Weight of each of the newest items, newest first."""
        return [self.decay**back for back in range(self.recent)]
