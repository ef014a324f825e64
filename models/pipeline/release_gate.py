"""The gate: whether a candidate may serve, by paired differences on events that nobody had seen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from msgspec import Struct
from statsmodels.stats.multitest import multipletests

from anabranch.messages import shortened
from models.evaluation.paired_differences import OVERALL, Difference, differences, events_of, means_of, prefix, users_of
from models.evaluation.protocols import Trial
from models.metrics.bootstrap import NonInferiorityMargin

PRIMARY = "ndcg_at_20"
SECONDARY = "recall_at_20"
ONLY_REPORTED = ("repeat", "new_to_user")
"""Slices that a ranker may rightly trade for one another."""
SLICE_MARGIN = NonInferiorityMargin(fixed=0.001, share=0.1)
RECALL_MARGIN = NonInferiorityMargin(fixed=0.002)

WORDS = {
    PRIMARY: "NDCG@20",
    SECONDARY: "recall@20",
    "co_visit": "the co-visit table's",
    "incumbent": "the incumbent's",
}
"""How metrics and rivals are called."""
_NAMED = 3


@dataclass(frozen=True)
class GateRule:
    """A candidate is released if it is better overall and not worse anywhere than the co-visit table, and than the
    incumbent where there is one. The sample is of users, not of events.

    *Better*: the 95 % interval of the difference in NDCG@20 lies above 0. A release that only matches the incumbent
    is not worth a swap: let through as "no worse", releases could drift downwards, a margin at a time, while one held
    back costs little, as the next is compared with an incumbent that has aged further.

    *Not worse*: the difference is above a margin below 0; in NDCG@20 on every task, on every domain and on cold
    items, where an average would hide a loss, and in recall@20 overall. What rankers reach differs thirtyfold between
    the departments of a shop, so a slice's margin is a share of what the rival reaches on it.

    *How often that errs.* All of it must hold, so for the release no part needs a correction for the others: "no
    better, or worse somewhere" is a union of hypotheses, rejected only where each is, so the whole errs no more often
    than one part (intersection-union; Berger, 1982). A candidate that equals a rival passes one time in forty at most,
    however many slices there are. The p-values of "not worse" are corrected all the same (Holm, 1979), for the verdict
    speaks of slices one by one, in a rejection too: with the correction the chance is 5 % at most that it calls any
    slice not worse that is, however many there are and however they depend on one another. It costs power, as the
    surest of m slices then needs a p-value of 5 % / m; but little, as the least sure needs 5 % either way.
    """

    slice_margin: NonInferiorityMargin = SLICE_MARGIN
    """Of NDCG@20 on a slice. The fixed part is for slices on which hardly anything is reached."""
    recall_margin: NonInferiorityMargin = RECALL_MARGIN
    """Of recall@20 overall."""
    level: float = 0.05
    """Of all that is called not worse, together."""
    users: int = 50
    """With fewer users an interval over users means little: nothing is released."""
    slice_users: int = 200
    """A slice with fewer users is reported and not tested: it could hardly show anything, and losses that only a few
    users meet make a bootstrap too sure of itself. On what grocers' customers bought for the first time, where that is
    so, a test at 5 % erred 13 times in a hundred with 50 users, 8 times with 200; on other slices 3 to 7 times."""
    samples: int = 2000
    """Of the bootstrap. No p-value is below 1 / (samples + 1), and the surest of m slices needs level / m."""

    def margin(self, difference: Difference) -> NonInferiorityMargin:
        """How much may be lost there."""
        if difference.slice != OVERALL:
            return self.slice_margin
        return NonInferiorityMargin() if difference.metric == PRIMARY else self.recall_margin


class Finding(Struct, frozen=True, kw_only=True):
    """One difference of the candidate to a rival, what the rule asks of it, and whether it does."""

    slice: str
    metric: str
    rival: str
    asked: Literal["better", "not_worse"] | None
    """None: it is reported only."""
    users: int
    difference: float
    low: float
    """Of the 95 % interval, as `high`."""
    high: float
    margin: float
    """What it should be above where "not worse" is asked; 0 or below."""
    p: float | None
    p_holm: float | None
    holds: bool
    """True where nothing is asked."""


class Verdict(Struct, frozen=True):
    """The gate's word, with the numbers it rests on.

    `METRIC_RANKER` is a ranker's mean. `METRIC_minus_RIVAL` is the candidate's difference to a rival; `_low` and
    `_high` are the ends of its 95 % interval, `_margin` is what it should be above, and `_p` the one-sided p-value of
    that, unless the users are too few. `_p_holm` is the corrected one, where the rule asks for "not worse". `users` and
    `events` are how many all that rests on. Numbers of a slice begin with its name and a slash.
    """

    accepted: bool
    reason: str
    numbers: dict[str, float]
    findings: tuple[Finding, ...] = ()
    """The same, difference by difference; none where too few users had slates."""


def decide(trial: Trial, rule: GateRule) -> Verdict:
    """Compare the candidate with everyone else on the trial's events."""
    users = users_of(trial)
    numbers = {f"{prefix(slice)}users": float(count) for slice, count in users.items()}
    numbers |= {f"{prefix(slice)}events": float(count) for slice, count in events_of(trial).items()}
    if users[OVERALL] < rule.users:
        few = f"the gate's window has {users[OVERALL]} users with slates, fewer than {rule.users}: lengthen --gate-days"
        return Verdict(False, few, numbers)
    claims = _corrected([_Claim.of(difference, rule) for difference in differences(trial, rule.samples)])
    numbers |= means_of(trial)
    for claim in claims:
        numbers |= claim.numbers()
    failed = [claim.denied() for claim in claims if not claim.holds(rule.level)]
    told = failed or [claim.affirmed() for claim in claims if claim.is_better]
    reason = shortened("; ".join([*told, *_on_slices(claims, users, rule)]))
    return Verdict(not failed, reason, numbers, tuple(claim.finding(rule.level) for claim in claims))


@dataclass(frozen=True)
class _Claim:
    """That a difference is above its margin."""

    difference: Difference
    margin: NonInferiorityMargin
    p: float | None
    """None: too few users to test."""
    p_holm: float | None = None
    """None: the rule does not ask for "not worse" there, or it is not tested."""

    @classmethod
    def of(cls, difference: Difference, rule: GateRule) -> _Claim:
        margin = rule.margin(difference)
        tested = difference.slice == OVERALL or difference.users >= rule.slice_users
        return cls(difference, margin, difference.bootstrap.p_above(margin) if tested else None)

    @property
    def is_better(self) -> bool:
        """Whether it is one of the claims "better": those the interval decides."""
        return (self.difference.slice, self.difference.metric) == (OVERALL, PRIMARY)

    @property
    def is_not_worse(self) -> bool:
        """Whether it is one of the claims "not worse": those the p-values decide, together."""
        if self.p is None or self.difference.slice in ONLY_REPORTED:
            return False
        return self.difference.metric == (SECONDARY if self.difference.slice == OVERALL else PRIMARY)

    def holds(self, level: float) -> bool:
        """Whether the rule is content with it; it is with all it does not ask about."""
        if self.is_better:
            return self.difference.bootstrap.interval().low > 0
        return self.p_holm is None or self.p_holm <= level

    def affirmed(self) -> str:
        """In words, when it holds."""
        return f"{self._metric} is above {self._rival}: {self._figures}"

    def denied(self) -> str:
        """In words, when it does not."""
        if self.is_better:
            return f"{self._metric} is not surely above {self._rival}: {self._figures}"
        where = "overall" if self.difference.slice == OVERALL else f"on {self.difference.slice}"
        most = -self.margin.lowest_difference(self.difference.bootstrap.theirs)
        p = f"Holm-corrected p {self.p_holm:.2g}"
        return f"{where} {self._metric} may be more than {most:.4f} below {self._rival}: {self._figures}, {p}"

    def numbers(self) -> dict[str, float]:
        """By name; see `Verdict`."""
        name, interval = self.difference.name, self.difference.bootstrap.interval()
        margin = self.margin.lowest_difference(self.difference.bootstrap.theirs)
        parts = {"low": interval.low, "high": interval.high, "margin": margin, "p": self.p, "p_holm": self.p_holm}
        named = {f"{name}_{part}": value for part, value in parts.items() if value is not None}
        return {name: interval.difference} | named

    def finding(self, level: float) -> Finding:
        """The claim, as it came out."""
        interval = self.difference.bootstrap.interval()
        return Finding(
            slice=self.difference.slice,
            metric=self.difference.metric,
            rival=self.difference.rival,
            asked="better" if self.is_better else "not_worse" if self.is_not_worse else None,
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
        return WORDS[self.difference.metric]

    @property
    def _rival(self) -> str:
        return WORDS[self.difference.rival]

    @property
    def _figures(self) -> str:
        interval = self.difference.bootstrap.interval()
        return f"{interval.difference:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"


def holm(p_values: Sequence[float]) -> list[float]:
    """Each p-value corrected for their number (Holm, 1979), in the order given.

    The smallest of m is multiplied by m, the next by m - 1, and so on; none becomes smaller than one before it, or
    larger than 1.
    """
    corrected: list[float] = multipletests(p_values, method="holm")[1].tolist()
    return corrected


def _corrected(claims: Sequence[_Claim]) -> list[_Claim]:
    """The same claims, those of "not worse" with their p-values corrected together."""
    corrected = iter(holm([claim.p for claim in claims if claim.p is not None and claim.is_not_worse]))
    return [replace(claim, p_holm=next(corrected)) if claim.is_not_worse else claim for claim in claims]


def _on_slices(claims: Sequence[_Claim], users: Mapping[str, int], rule: GateRule) -> Iterator[str]:
    """How many slices are not worse, and which were not tested."""
    shown = [claim for claim in claims if claim.is_not_worse and claim.difference.slice != OVERALL]
    tested = {claim.difference.slice for claim in shown}
    worse = {claim.difference.slice for claim in shown if not claim.holds(rule.level)}
    if tested:
        yield f"not worse on {len(tested - worse)} of {len(tested)} slices"
    untested = [slice for slice in users if slice not in {OVERALL, *ONLY_REPORTED, *tested}]
    if untested:
        largest = sorted(untested, key=lambda slice: -users[slice])
        named = ", ".join(f"{slice} ({users[slice]})" for slice in largest[:_NAMED])
        more = f" and {len(untested) - _NAMED} more" if len(untested) > _NAMED else ""
        yield f"not tested, with fewer than {rule.slice_users} users: {named}{more}"
