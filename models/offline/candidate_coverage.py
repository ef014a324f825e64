"""How often the item of the next event is among the candidates, and which sources propose it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from anabranch.ranking.retrieval.candidate_columns import (
    BY_CO_VISITS,
    BY_INDEX,
    BY_OWN_EVENTS,
    BY_POPULARITY,
    Candidates,
)
from anabranch.ranking.types import Mask
from models.networks.list_ranker import Positions

SOURCES = {
    "own_events": BY_OWN_EVENTS,
    "co_visits": BY_CO_VISITS,
    "index": BY_INDEX,
    "popularity": BY_POPULARITY,
}
"""Those of `anabranch.ranking.retrieval.candidates`, less pins: offline figures are without rules."""


class SourceCoverage(Struct, frozen=True, kw_only=True):
    """Of one source."""

    share: float
    """Share of the next items that it proposes."""
    alone: float
    """Share that it proposes and no other source does: what would be lost without it."""


class CandidateCoverage(Struct, frozen=True, kw_only=True):
    """Of some events. No order can put an item on a slate that is no candidate: `share` bounds the recall."""

    events: int
    candidates: float
    """Mean number of candidates of an event."""
    share: float
    """Share of the events whose item is a candidate."""
    sources: dict[str, SourceCoverage]


@dataclass(frozen=True)
class ProposedItems:
    """What was proposed before M events."""

    by: NDArray[np.uint8]
    """[M] the sources of the event's item, one bit each; 0: it was no candidate."""
    candidates: NDArray[np.int64]
    """[M] the number of all candidates."""

    @classmethod
    def of_queries(cls, candidates: Candidates, item: NDArray[np.integer]) -> ProposedItems:
        """Of B queries, each of whose next event is about the item [B]."""
        by = np.zeros(len(item), np.uint8)
        hit = candidates.item == item[candidates.query]
        by[candidates.query[hit]] = candidates.proposed_by[hit]
        return cls(by, np.bincount(candidates.query, minlength=len(item)))

    def take(self, events: Positions) -> ProposedItems:
        """Some of the events."""
        return ProposedItems(self.by[events], self.candidates[events])

    @classmethod
    def concatenate(cls, parts: Sequence[ProposedItems]) -> ProposedItems:
        """Those of all parts, in order."""
        return cls(np.concatenate([part.by for part in parts]), np.concatenate([part.candidates for part in parts]))

    def coverage(self, mask: Mask | slice = slice(None)) -> CandidateCoverage:
        """Of the events in the mask [M]; all 0 without events."""
        by, candidates = self.by[mask], self.candidates[mask]
        return CandidateCoverage(
            events=len(by),
            candidates=float(candidates.sum() / max(len(by), 1)),
            share=_share(by > 0),
            sources={
                name: SourceCoverage(share=_share(by & bit > 0), alone=_share(by == bit))
                for name, bit in SOURCES.items()
            },
        )

    def coverage_by_slice(self, slices: Mapping[str, Mask]) -> dict[str, CandidateCoverage]:
        """Of each slice [M] with events."""
        return {name: self.coverage(mask) for name, mask in slices.items() if mask.any()}


def _share(events: Mask) -> float:
    """The share of the events [M] that are set; 0 without events."""
    return float(events.sum() / max(len(events), 1))
