"""The release gate: paired tests on events that no model trained on decide whether a release candidate may serve."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from msgspec import Struct
from statsmodels.stats.multitest import multipletests

from anabranch.messages import shortened
from models.evaluation.contenders import PairedRanks
from models.evaluation.off_policy import ExposureEstimate
from models.evaluation.paired_differences import (
    OVERALL,
    Difference,
    differences,
    events_by_slice,
    mean_metrics,
    prefix,
    users_by_slice,
)
from models.metrics.bootstrap import NonInferiorityMargin

PRIMARY = "ndcg_at_20"
SECONDARY = "recall_at_20"
ONLY_REPORTED = ("repeat", "new_to_user")
"""Slices that are reported and not tested: a ranker may trade one for the other."""
SLICE_MARGIN = NonInferiorityMargin(fixed=0.001, share=0.1)
RECALL_MARGIN = NonInferiorityMargin(fixed=0.002)

METRIC_NAMES = {PRIMARY: "NDCG@20", SECONDARY: "recall@20"}
BASELINE_NAMES = {"co_visit": "the co-visit table", "incumbent": "the incumbent"}
_MAX_NAMED_SLICES = 3


@dataclass(frozen=True)
class GateRule:
    """A release candidate is accepted if it is superior overall, and non-inferior everywhere, to the co-visit table and
    to the incumbent if there is one. The sampling unit is the user, not the event.

    *Superior*: the 95 % interval of the difference in NDCG@20 lies above 0. A candidate that is only as good as the
    incumbent is not worth a swap. If non-inferiority were enough, releases could get worse by up to a margin each time;
    a rejected candidate costs little, because the next one is compared with an incumbent that has aged further.

    *Non-inferior*: the difference is above a margin below 0. This is tested in NDCG@20 on every task, on every domain
    and on cold items, where an average would hide a loss, and in recall@20 overall. The metrics of rankers differ
    thirtyfold between the departments of a shop, so a slice's margin is a share of the baseline's metric on it.

    *Not below by exposure.* Where slates have explored places and enough users had events there, NDCG@20 estimated from
    these (`models.evaluation.off_policy`) must not be significantly below the incumbent's.

    *Error rates.* Every test must pass, so the acceptance needs no correction for their number: "not superior, or
    inferior somewhere" is a union of hypotheses that is rejected only if each of them is, so the error rate is at most
    that of one test (intersection-union test; Berger, 1982). A candidate equal to a baseline is accepted one time in
    forty at most, however many slices there are. The p-values of non-inferiority are corrected all the same (Holm,
    1979), because the verdict also names single slices, even in a rejection: with the correction, the chance that it
    calls any inferior slice non-inferior is 5 % at most, for any number of slices and any dependence between them. The
    cost is power: the smallest of m p-values must be 5 % / m at most. It is a small cost, because the largest must be
    5 % at most with or without the correction.
    """

    slice_margin: NonInferiorityMargin = SLICE_MARGIN
    """For NDCG@20 on a slice. The fixed part is for slices on which every ranker's metric is close to 0."""
    recall_margin: NonInferiorityMargin = RECALL_MARGIN
    """For recall@20 overall."""
    level: float = 0.05
    """Family-wise error rate of all non-inferiority tests together."""
    users: int = 50
    """With fewer users an interval over users is not reliable, and every candidate is rejected."""
    slice_users: int = 200
    """A slice with fewer users is reported and not tested: such a test has little power, and a bootstrap underestimates
    the variance of losses that only a few users have. On the first purchases of grocers' customers, where that is so, a
    test at 5 % erred in 13 % of the cases with 50 users and in 8 % with 200; on other slices in 3 % to 7 %."""
    samples: int = 2000
    """Bootstrap samples. No p-value is below 1 / (samples + 1), and the smallest of m must be level / m at most."""

    def margin(self, difference: Difference) -> NonInferiorityMargin:
        """The margin of a difference; of size 0 where superiority is tested."""
        if difference.slice != OVERALL:
            return self.slice_margin
        return NonInferiorityMargin() if difference.metric == PRIMARY else self.recall_margin


class Finding(Struct, frozen=True, kw_only=True):
    """One difference of the release candidate to a baseline, and the result of its test."""

    slice: str
    metric: str
    baseline: str
    hypothesis: Literal["superior", "non_inferior"] | None
    """What was tested; None: the difference is only reported."""
    users: int
    difference: float
    low: float
    """Lower end of the 95 % interval."""
    high: float
    """Upper end of the 95 % interval."""
    margin: float
    """The difference must be above it; 0 or below."""
    p: float | None
    p_holm: float | None
    holds: bool
    """Whether the hypothesis is accepted; True without one."""


class Verdict(Struct, frozen=True):
    """The gate's decision with the numbers behind it, which the manifest stores.

    `METRIC_RANKER` is a ranker's mean. `METRIC_minus_BASELINE` is the candidate's difference to a baseline; `_low` and
    `_high` are the ends of its 95 % interval, `_margin` is the value that it must exceed, and `_p` the one-sided
    p-value of that, unless there are too few users. `_p_holm` is the corrected p-value where non-inferiority is tested.
    `users` and `events` count what the numbers are computed from. Numbers of a slice begin with its name and a slash.
    """

    accepted: bool
    reason: str
    numbers: dict[str, float]
    findings: tuple[Finding, ...] = ()
    """The same, one entry per difference; empty if too few users had slates."""
    exposure: ExposureEstimate | None = None
    """Estimated from feedback on explored places; its numbers begin with `exposure/`. None: there is no such feedback,
    or no incumbent."""


def decide(paired: PairedRanks, rule: GateRule, exposure: ExposureEstimate | None = None) -> Verdict:
    """Compare the release candidate with every baseline on the same events, and apply the rule.

    `exposure` is the estimate from explored places, where there is feedback on these.
    """
    users = users_by_slice(paired)
    numbers = {f"{prefix(slice)}users": float(count) for slice, count in users.items()}
    numbers |= {f"{prefix(slice)}events": float(count) for slice, count in events_by_slice(paired).items()}
    if users[OVERALL] < rule.users:
        few = f"the gate's window has {users[OVERALL]} users with slates, fewer than {rule.users}: lengthen --gate-days"
        return Verdict(False, few, numbers)
    tests = _holm_corrected([_Test.from_difference(entry, rule) for entry in differences(paired, rule.samples)])
    numbers |= mean_metrics(paired)
    for test in tests:
        numbers |= test.numbers()
    numbers |= exposure.numbers() if exposure is not None else {}
    failed = [test.failure_text() for test in tests if not test.holds(rule.level)]
    failed += [_below_by_exposure(exposure)] if exposure is not None and not exposure.holds else []
    reasons = failed or [test.success_text() for test in tests if test.is_superiority]
    reason = shortened("; ".join([*reasons, *_slice_texts(tests, users, rule)]))
    return Verdict(not failed, reason, numbers, tuple(test.finding(rule.level) for test in tests), exposure)


def _below_by_exposure(exposure: ExposureEstimate) -> str:
    interval = exposure.improvement
    return (
        f"NDCG@20 estimated from explored places is significantly below the incumbent's: {interval.difference:+.4f} "
        f"[{interval.low:+.4f}, {interval.high:+.4f}]"
    )


@dataclass(frozen=True)
class _Test:
    """The test that a difference is above its margin."""

    difference: Difference
    margin: NonInferiorityMargin
    p: float | None
    """None: too few users to test."""
    p_holm: float | None = None
    """None: non-inferiority is not tested here."""

    @classmethod
    def from_difference(cls, difference: Difference, rule: GateRule) -> _Test:
        margin = rule.margin(difference)
        is_tested = difference.slice == OVERALL or difference.users >= rule.slice_users
        return cls(difference, margin, difference.bootstrap.p_above(margin) if is_tested else None)

    @property
    def is_superiority(self) -> bool:
        """Whether superiority is tested, by the interval."""
        return (self.difference.slice, self.difference.metric) == (OVERALL, PRIMARY)

    @property
    def is_non_inferiority(self) -> bool:
        """Whether non-inferiority is tested, by the corrected p-value."""
        if self.p is None or self.difference.slice in ONLY_REPORTED:
            return False
        return self.difference.metric == (SECONDARY if self.difference.slice == OVERALL else PRIMARY)

    def holds(self, level: float) -> bool:
        """Whether the hypothesis is accepted; True for differences that are only reported."""
        if self.is_superiority:
            return self.difference.bootstrap.interval().low > 0
        return self.p_holm is None or self.p_holm <= level

    def success_text(self) -> str:
        """The reason to give if superiority holds."""
        return f"{self._metric} is above {self._baseline}'s: {self._interval_text}"

    def failure_text(self) -> str:
        """The reason to give if the hypothesis does not hold."""
        if self.is_superiority:
            return f"{self._metric} is not significantly above {self._baseline}'s: {self._interval_text}"
        scope = "overall" if self.difference.slice == OVERALL else f"on {self.difference.slice}"
        margin = -self.margin.lowest_difference(self.difference.bootstrap.theirs)
        p = f"Holm-corrected p {self.p_holm:.2g}"
        below = f"may be more than {margin:.4f} below {self._baseline}'s"
        return f"{scope} {self._metric} {below}: {self._interval_text}, {p}"

    def numbers(self) -> dict[str, float]:
        """Numbers for the manifest; see `Verdict`."""
        name, interval = self.difference.name, self.difference.bootstrap.interval()
        margin = self.margin.lowest_difference(self.difference.bootstrap.theirs)
        parts = {"low": interval.low, "high": interval.high, "margin": margin, "p": self.p, "p_holm": self.p_holm}
        named = {f"{name}_{part}": value for part, value in parts.items() if value is not None}
        return {name: interval.difference} | named

    def finding(self, level: float) -> Finding:
        """The difference and the result of the test."""
        interval = self.difference.bootstrap.interval()
        return Finding(
            slice=self.difference.slice,
            metric=self.difference.metric,
            baseline=self.difference.baseline,
            hypothesis="superior" if self.is_superiority else "non_inferior" if self.is_non_inferiority else None,
            users=self.difference.users,
            difference=interval.difference,
            low=interval.low,
            high=interval.high,
            margin=self.margin.lowest_difference(self.difference.bootstrap.theirs),
            p=self.p,
            p_holm=self.p_holm,
            holds=self.holds(level),
        )

    @property
    def _metric(self) -> str:
        return METRIC_NAMES[self.difference.metric]

    @property
    def _baseline(self) -> str:
        return BASELINE_NAMES[self.difference.baseline]

    @property
    def _interval_text(self) -> str:
        interval = self.difference.bootstrap.interval()
        return f"{interval.difference:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"


def holm(p_values: Sequence[float]) -> list[float]:
    """Each p-value corrected for their number (Holm, 1979), in the given order.

    The smallest of m is multiplied by m, the next by m - 1, and so on; none becomes smaller than one before it, or
    larger than 1.
    """
    corrected: list[float] = multipletests(p_values, method="holm")[1].tolist()
    return corrected


def _holm_corrected(tests: Sequence[_Test]) -> list[_Test]:
    """The same tests; the p-values of non-inferiority are corrected together."""
    corrected = iter(holm([test.p for test in tests if test.p is not None and test.is_non_inferiority]))
    return [replace(test, p_holm=next(corrected)) if test.is_non_inferiority else test for test in tests]


def _slice_texts(tests: Sequence[_Test], users: Mapping[str, int], rule: GateRule) -> Iterator[str]:
    """How many slices are non-inferior, and which were not tested."""
    on_slices = [test for test in tests if test.is_non_inferiority and test.difference.slice != OVERALL]
    tested = {test.difference.slice for test in on_slices}
    failed = {test.difference.slice for test in on_slices if not test.holds(rule.level)}
    if tested:
        yield f"non-inferior on {len(tested - failed)} of {len(tested)} slices"
    untested = [slice for slice in users if slice not in {OVERALL, *ONLY_REPORTED, *tested}]
    if untested:
        largest = sorted(untested, key=lambda slice: -users[slice])
        named = ", ".join(f"{slice} ({users[slice]})" for slice in largest[:_MAX_NAMED_SLICES])
        more = f" and {len(untested) - _MAX_NAMED_SLICES} more" if len(untested) > _MAX_NAMED_SLICES else ""
        yield f"not tested, with fewer than {rule.slice_users} users: {named}{more}"
