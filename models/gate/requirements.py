"""What the gate requires of a release candidate besides its tests: a share of what the incumbent reaches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from models.evaluation.contenders import PairedRanks

COVERAGE = "shown_items"
CALIBRATION = "purchase_calibration_error"
COVERAGE_SHARE = 0.8
"""Of the distinct items on the incumbent's slates, the candidate's must reach this share: it may not show far fewer."""
CALIBRATION_MARGIN = 0.02
"""A probability of purchase may be wrong by this much more, on average, than the incumbent's."""


class Requirement(Struct, frozen=True, kw_only=True):
    """One figure of candidate and incumbent, and the limit that the candidate has to keep."""

    name: str
    """`COVERAGE` or `CALIBRATION`."""
    candidate: float
    incumbent: float
    limit: float
    holds: bool

    def numbers(self) -> dict[str, float]:
        """Numbers for the manifest."""
        return {f"{self.name}_candidate": self.candidate, f"{self.name}_incumbent": self.incumbent}

    def failure_text(self) -> str:
        """The reason to give if it does not hold."""
        return f"{self.name} is {self.candidate:.4g}, the incumbent's {self.incumbent:.4g}, the limit {self.limit:.4g}"


def requirements(
    paired: PairedRanks, candidate_heads: Mapping[str, Any], incumbent_heads: Mapping[str, Any]
) -> list[Requirement]:
    """Those of a candidate against an incumbent, by their ranks and the metrics of their optional heads."""
    return [*_coverage(paired), *_calibration(candidate_heads, incumbent_heads)]


def _coverage(paired: PairedRanks) -> Iterator[Requirement]:
    if paired.shown_items is not None:
        ours, theirs = paired.shown_items
        limit = COVERAGE_SHARE * theirs
        yield Requirement(name=COVERAGE, candidate=ours, incumbent=theirs, limit=limit, holds=ours >= limit)


def _calibration(candidate: Mapping[str, Any], incumbent: Mapping[str, Any]) -> Iterator[Requirement]:
    """The purchase heads' calibration errors, each on the newest items on slates that its training left out."""
    if "purchase" in candidate and "purchase" in incumbent:
        ours, theirs = (float(heads["purchase"]["calibration_error"]) for heads in (candidate, incumbent))
        limit = theirs + CALIBRATION_MARGIN
        yield Requirement(name=CALIBRATION, candidate=ours, incumbent=theirs, limit=limit, holds=ours <= limit)
