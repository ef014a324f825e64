"""The release gate: paired tests on events that no model trained on decide whether a release candidate may serve."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from msgspec import Struct

from anabranch.messages import shortened
from models.evaluation.contenders import PairedRanks
from models.evaluation.off_policy import ExposureEstimate
from models.evaluation.paired_differences import (
    CO_VISIT,
    INCUMBENT,
    OVERALL,
    Difference,
    differences,
    events_by_slice,
    mean_metrics,
    placements_as_slices,
    prefix,
    users_by_slice,
)
from models.gate.findings import (
    PRIMARY,
    Finding,
    Hypothesis,
    Test,
    failure_text,
    kind_of,
    slice_name,
    success_text,
)
from models.gate.requirements import Requirement
from models.metrics.bootstrap import NonInferiorityMargin

OVERALL_MARGIN = NonInferiorityMargin(share=0.05)
SLICE_MARGIN = NonInferiorityMargin(fixed=0.001, share=0.1)
EARLIER_RELEASES = 5
"""A candidate is compared with so many. Ten releases in a row that are each worse than the one before by less than the
gate can tell from chance would be worse than the first of them by ten times that."""
POOLED = "small_slices"
"""The events of all slices and further placements with too few users for a test of their own."""
_MAX_NAMED = 3


@dataclass(frozen=True)
class GateRule:
    """A release candidate is accepted if it is superior overall to the incumbent, and non-inferior everywhere to the
    incumbent, to the best baseline, to every seed model and to the best of the releases before the incumbent.

    *Superior*: the 95 % interval of the difference in NDCG@20 lies above 0. A candidate that is only as good as the
    incumbent is not worth a swap. Without an incumbent it is the co-visit table that the candidate has to exceed.

    *Non-inferior*: the difference is above a margin below 0. This is tested overall in NDCG@20 and recall@20, and in
    NDCG@20 on every slice, where an average would hide a loss. A seed model that is better on a slice knows something
    that was not shared. The earlier releases are a floor: if the incumbent alone were compared with, every release
    could be worse by up to a margin than the one before. On each slice the one that is best there counts.

    *Further placements* are tested as slices, `placement:NAME`: by their own slates, on the events that they are for,
    to the baseline that is best there. A slice of the first placement that a further one is for is only reported:
    `new_to_user` where one with `repeats` "never" follows, `repeat` where one with "only" does. Those events have a
    slate of their own, and on the first one either kind takes its places from the other.

    *Small slices*, and placements with as few users, are tested together, as one slice. An interval of a few users is
    not reliable: on the first purchases of grocers' customers a test at 5 % erred in 13 % of the cases with 50 users
    and in 8 % with 200.

    *What is drawn.* Users are, and days: one week is one draw of seven days, and a difference on them holds for other
    weeks as far as the days agree (`models.metrics.bootstrap`).

    *Not below by exposure.* Where slates have explored places and enough users had events there, NDCG@20 estimated from
    these (`models.evaluation.off_policy`) must not be significantly below the incumbent's.

    *Error rates.* Every test must pass, so none needs a correction for their number: "not superior, or inferior
    somewhere" is a union of hypotheses that is rejected only if each of them is, so the error rate is at most that of
    one test (intersection-union test; Berger, 1982). `anabranch bench gate` simulates it.
    """

    overall_margin: NonInferiorityMargin = OVERALL_MARGIN
    """For NDCG@20 and recall@20 overall."""
    slice_margin: NonInferiorityMargin = SLICE_MARGIN
    """For NDCG@20 on a slice or a further placement. The fixed part is for slices on which every ranker's metric is
    close to 0."""
    level: float = 0.05
    """Error rate of each test of non-inferiority."""
    users: int = 50
    """With fewer users an interval over users is not reliable, and every candidate is rejected."""
    slice_users: int = 200
    """Slices and further placements with fewer users are tested together."""
    samples: int = 2000
    """Bootstrap samples."""
    tolerates: frozenset[str] = frozenset()
    """Slices, and placements as `placement:NAME`, on which a loss is reported and does not reject."""

    def test(self, difference: Difference, superior_to: str, reported: Collection[str] = ()) -> Test:
        """What is tested of a difference; `superior_to` is the comparator that the candidate has to exceed, and on the
        slices in `reported` nothing is tested."""
        margin = self._margin(difference)
        hypothesis = None if difference.slice in reported else self._hypothesis(difference, superior_to)
        if hypothesis == "superior":
            margin = NonInferiorityMargin()
        return Test(difference, hypothesis, margin, difference.slice in self.tolerates)

    def _margin(self, difference: Difference) -> NonInferiorityMargin:
        return self.overall_margin if difference.slice == OVERALL else self.slice_margin

    def _hypothesis(self, difference: Difference, superior_to: str) -> Hypothesis | None:
        if (difference.slice, difference.metric) == (OVERALL, PRIMARY) and difference.comparator == superior_to:
            return "superior"
        tested_alone = {OVERALL, POOLED, *self.tolerates}
        if difference.slice not in tested_alone and difference.users < self.slice_users:
            return None  # among the pooled ones
        return "non_inferior" if difference.bootstrap.theirs > 0 else None  # nothing can be below 0


class Verdict(Struct, frozen=True):
    """The gate's decision with the numbers behind it, which the manifest stores.

    `METRIC_RANKER` is a ranker's mean over all events. `METRIC_minus_COMPARATOR` is the candidate's difference to it;
    `_low` and `_high` are the ends of its 95 % interval, `_margin` is the value that it must exceed, and `_p` the
    one-sided p-value of that. `users` and `events` count what the numbers are computed from; those of a slice begin
    with its name and a slash. Differences on slices are in the findings alone.
    """

    accepted: bool
    reason: str
    numbers: dict[str, float]
    findings: tuple[Finding, ...] = ()
    """One entry per difference, on slices and further placements too; empty if too few users had slates."""
    exposure: ExposureEstimate | None = None
    """Estimated from feedback on explored places; its numbers begin with `exposure/`. None: there is no such feedback,
    or no incumbent."""
    requirements: tuple[Requirement, ...] = ()
    """What else is required of the candidate."""
    pooled: tuple[str, ...] = ()
    """Slices and placements that were tested together, as `POOLED`; the largest first."""

    @property
    def announced(self) -> dict[str, float]:
        """The numbers that the release's notice has: those over all events."""
        return {name: value for name, value in self.numbers.items() if "/" not in name}


def decide(
    paired: PairedRanks,
    rule: GateRule,
    exposure: ExposureEstimate | None = None,
    required: Sequence[Requirement] = (),
) -> Verdict:
    """Compare the release candidate with every comparator on the same events, and apply the rule.

    `exposure` is the estimate from explored places, where there is feedback on these.
    """
    numbers = _counts(paired)
    users = int(numbers["users"])
    if users < rule.users:
        few = f"the gate's window has {users} users with slates, fewer than {rule.users}: lengthen --gate-days"
        return Verdict(False, few, numbers)
    numbers |= mean_metrics(paired)
    paired = placements_as_slices(paired)
    pooled = _small_slices(paired, rule)
    paired = _with_pool(paired, pooled)
    superior_to, reported = CO_VISIT if paired.incumbent is None else INCUMBENT, paired.placed_elsewhere
    tests = [rule.test(difference, superior_to, reported) for difference in differences(paired, rule.samples)]
    findings = [test.finding(rule.level) for test in tests]
    numbers |= _counts(paired)
    for finding in findings:
        numbers |= finding.numbers() if finding.slice == OVERALL else {}
    for requirement in required:
        numbers |= requirement.numbers()
    numbers |= exposure.numbers() if exposure is not None else {}
    failed = [failure_text(finding) for finding in _worst_first(findings) if finding.rejects]
    failed += [requirement.failure_text() for requirement in required if not requirement.holds]
    failed += [_below_by_exposure(exposure)] if exposure is not None and not exposure.holds else []
    reasons = failed or [success_text(finding) for finding in findings if finding.hypothesis == "superior"]
    reason = shortened("; ".join([*reasons, *_slice_texts(findings, pooled)]))
    return Verdict(not failed, reason, numbers, tuple(findings), exposure, tuple(required), tuple(pooled))


def _counts(paired: PairedRanks) -> dict[str, float]:
    users, events = users_by_slice(paired), events_by_slice(paired)
    numbers = {f"{prefix(slice)}users": float(count) for slice, count in users.items()}
    return numbers | {f"{prefix(slice)}events": float(count) for slice, count in events.items()}


def _small_slices(paired: PairedRanks, rule: GateRule) -> list[str]:
    """Slices with events of too few users for a test, largest first; not those that are tolerated, and so tested on
    their own, or reported only."""
    users, not_pooled = users_by_slice(paired), {OVERALL} | rule.tolerates | paired.placed_elsewhere
    small = [slice for slice, count in users.items() if 0 < count < rule.slice_users and slice not in not_pooled]
    return sorted(small, key=lambda slice: -users[slice])


def _with_pool(paired: PairedRanks, small: Collection[str]) -> PairedRanks:
    if not small:
        return paired
    pool = np.logical_or.reduce([paired.slices[slice] for slice in small])
    return replace(paired, slices={**paired.slices, POOLED: pool})


def _worst_first(findings: Sequence[Finding]) -> list[Finding]:
    """Superiority first, then what lies furthest below its margin."""
    return sorted(findings, key=lambda finding: (finding.hypothesis != "superior", finding.difference - finding.margin))


def _below_by_exposure(exposure: ExposureEstimate) -> str:
    interval = exposure.improvement
    return (
        f"NDCG@20 estimated from explored places is significantly below the incumbent's: {interval.difference:+.4f} "
        f"[{interval.low:+.4f}, {interval.high:+.4f}]"
    )


def _slice_texts(findings: Sequence[Finding], pooled: Sequence[str]) -> Iterator[str]:
    """On how many slices and placements the candidate is non-inferior, which losses are tolerated, and what was tested
    together."""
    on_slices = [finding for finding in findings if finding.hypothesis == "non_inferior" and finding.slice != OVERALL]
    tested = {finding.slice for finding in on_slices}
    lost = dict.fromkeys(finding.slice for finding in _worst_first(on_slices) if not finding.holds)
    if tested:
        yield f"non-inferior on {len(tested) - len(lost)} of {len(tested)} {kind_of(tested)}"
    tolerated = [finding.slice for finding in on_slices if not finding.holds and finding.tolerated]
    if tolerated:
        yield f"tolerated: {_named(list(dict.fromkeys(tolerated)))}"
    if pooled:
        yield f"tested together, for few users: {_named(pooled)}"
    if findings and findings[0].days == 1:
        yield "the window has one day, so intervals are over users alone"


def _named(slices: Sequence[str]) -> str:
    more = f" and {len(slices) - _MAX_NAMED} more" if len(slices) > _MAX_NAMED else ""
    return ", ".join(map(slice_name, slices[:_MAX_NAMED])) + more
