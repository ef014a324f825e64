"""Single tests of the release gate: a difference to a comparator, its hypothesis, and what was found."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from msgspec import Struct

from models.evaluation.paired_differences import CO_VISIT, EARLIER, INCUMBENT, OVERALL, PLACEMENT, SEED, Difference
from models.metrics.bootstrap import NonInferiorityMargin

PRIMARY = "ndcg_at_20"
SECONDARY = "recall_at_20"
METRIC_NAMES = {PRIMARY: "NDCG@20", SECONDARY: "recall@20"}
COMPARATOR_NAMES = {
    INCUMBENT: "the incumbent",
    CO_VISIT: "the co-visit table",
    "popularity": "popularity",
    "personal_frequency": "the personal frequency",
    "session_knn": "the session kNN",
    "user_knn": "the user kNN",
}
Hypothesis = Literal["superior", "non_inferior"]


def comparator_name(name: str) -> str:
    """What a comparator is called in a sentence."""
    if name.startswith(SEED):
        return f"seed model {name.removeprefix(SEED)}"
    if name.startswith(EARLIER):
        return f"the earlier release {name.removeprefix(EARLIER)}"
    return COMPARATOR_NAMES[name]


def possessive(name: str) -> str:
    """What a comparator has, in a sentence."""
    return f"{comparator_name(name)}'s"


def slice_name(slice: str) -> str:
    """What a slice is called in a sentence."""
    return f"placement {slice.removeprefix(PLACEMENT)}" if slice.startswith(PLACEMENT) else slice


def kind_of(slices: Collection[str]) -> str:
    """What these are together, in a sentence."""
    return "slices and placements" if any(slice.startswith(PLACEMENT) for slice in slices) else "slices"


class Finding(Struct, frozen=True, kw_only=True):
    """One difference of the release candidate to a comparator, and the result of its test."""

    slice: str
    """`overall`, a slice, or `placement:NAME` for a further placement."""
    metric: str
    comparator: str
    hypothesis: Hypothesis | None
    """What was tested; None: the difference is only reported."""
    users: int
    days: int
    """That were resampled besides the users; 1: users alone."""
    theirs: float
    """The comparator's mean."""
    difference: float
    low: float
    """Lower end of the 95 % interval."""
    high: float
    """Upper end of the 95 % interval."""
    margin: float
    """The difference must be above it; 0 or below."""
    p: float | None
    """One-sided p-value of that; None without a test."""
    holds: bool
    """Whether the hypothesis is accepted; True without one."""
    tolerated: bool = False
    """Whether a loss here does not reject."""

    @property
    def rejects(self) -> bool:
        """Whether the candidate is rejected for it."""
        return not (self.holds or self.tolerated)

    def numbers(self) -> dict[str, float]:
        """Numbers for the manifest; see `models.gate.release_gate.Verdict`."""
        name = f"{self.metric}_minus_{self.comparator}"
        parts = {"low": self.low, "high": self.high, "margin": self.margin, "p": self.p}
        return {name: self.difference} | {f"{name}_{part}": value for part, value in parts.items() if value is not None}


@dataclass(frozen=True)
class Test:
    """The test that a difference is above its margin."""

    difference: Difference
    hypothesis: Hypothesis | None
    margin: NonInferiorityMargin
    is_tolerated: bool = False

    def finding(self, level: float) -> Finding:
        """The difference and the result of the test, at this error rate."""
        bootstrap = self.difference.bootstrap
        interval = bootstrap.interval()
        p = None if self.hypothesis is None else bootstrap.p_above(self.margin)
        return Finding(
            slice=self.difference.slice,
            metric=self.difference.metric,
            comparator=self.difference.comparator,
            hypothesis=self.hypothesis,
            users=self.difference.users,
            days=self.difference.days,
            theirs=bootstrap.theirs,
            difference=interval.difference,
            low=interval.low,
            high=interval.high,
            margin=self.margin.lowest_difference(bootstrap.theirs),
            p=p,
            holds=p is None or (interval.low > 0 if self.hypothesis == "superior" else p <= level),
            tolerated=self.is_tolerated,
        )


def success_text(finding: Finding) -> str:
    """The reason to give if superiority holds."""
    return f"{METRIC_NAMES[finding.metric]} is above {possessive(finding.comparator)}: {interval_text(finding)}"


def failure_text(finding: Finding) -> str:
    """The reason to give if the hypothesis does not hold."""
    metric = METRIC_NAMES[finding.metric]
    if finding.hypothesis == "superior":
        return f"{metric} is not significantly above {possessive(finding.comparator)}: {interval_text(finding)}"
    scope = "overall" if finding.slice == OVERALL else f"on {slice_name(finding.slice)}"
    below = f"may be more than {margin_text(finding)} below {possessive(finding.comparator)} {finding.theirs:.4f}"
    return f"{scope} {metric} {below}: {interval_text(finding)}, p {finding.p:.2g}"


def margin_text(finding: Finding) -> str:
    """The loss that the margin allows: the amount, and the share of the comparator's mean."""
    return f"{-finding.margin:.4f} ({-finding.margin / finding.theirs:.0%})" if finding.theirs else "0"


def interval_text(finding: Finding) -> str:
    """The difference with its 95 % interval."""
    return f"{finding.difference:+.4f} [{finding.low:+.4f}, {finding.high:+.4f}]"
