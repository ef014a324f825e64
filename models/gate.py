"""The gate: whether a candidate may serve, by paired differences on events that nobody had seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from msgspec import Struct

from models.evaluation.bootstrap import Interval, paired_interval
from models.evaluation.metrics import Ranks, discounted_gains, hits
from models.evaluation.protocols import Trial

METRICS = {"ndcg_at_20": discounted_gains, "recall_at_20": hits}
K = 20


@dataclass(frozen=True)
class GateRule:
    """Primary metric NDCG@20, secondary recall@20; every bound is the lower end of a 95 % interval over users.

    The candidate must be better on the primary than whatever it would replace, and not worse on the secondary by
    more than `margin`; a release that only matches the incumbent is not worth a swap. Releases let through as "no
    worse" could drift downwards, a margin at a time; one held back costs little, as the next is compared with an
    incumbent that has aged further. The co-visit table must be beaten on both.

    All bounds must hold at once, so none needs a correction for the others (intersection-union; Berger, 1982): a
    candidate that equals the incumbent passes one time in forty at most.
    """

    margin: float = 0.002
    """How much recall@20 may be given up, absolute."""
    users: int = 50
    """With fewer users an interval over users means little: nothing is released."""
    samples: int = 2000
    """Of the bootstrap."""


class Verdict(Struct, frozen=True):
    """The gate's word, with the numbers it rests on."""

    accepted: bool
    reason: str
    numbers: dict[str, float]


@dataclass(frozen=True)
class _Test:
    """One bound that must hold."""

    rival: str
    metric: str
    interval: Interval
    above: float

    @property
    def holds(self) -> bool:
        return self.interval.low > self.above

    def numbers(self) -> dict[str, float]:
        """The lead and its interval, by name."""
        lead = f"{self.metric}_minus_{self.rival}"
        low, high = self.interval.low, self.interval.high
        return {lead: self.interval.difference, f"{lead}_low": low, f"{lead}_high": high}

    def __str__(self) -> str:
        lead = f"{self.interval.difference:+.4f} [{self.interval.low:+.4f}, {self.interval.high:+.4f}]"
        return f"{self.metric} - {self.rival} {lead}"


def decide(trial: Trial, rule: GateRule) -> Verdict:
    """Compare the candidate with everyone else on the trial's events."""
    users = len(np.unique(trial.user))
    numbers = {"events": float(len(trial.user)), "users": float(users)}
    if users < rule.users:
        return Verdict(False, f"the gate's window has {users} users with slates, fewer than {rule.users}", numbers)
    tests = list(_tests(trial, rule))
    numbers |= _means(trial)
    for test in tests:
        numbers |= test.numbers()
    failed = [test for test in tests if not test.holds]
    if failed:
        told = "; ".join(f"{test}, not above {test.above:g}" for test in failed)
        return Verdict(False, told, numbers)
    return Verdict(True, "; ".join(map(str, tests)), numbers)


def _tests(trial: Trial, rule: GateRule) -> Iterator[_Test]:
    for rival, theirs in _rivals(trial).items():
        for metric, gains in METRICS.items():
            may_lose = rule.margin if rival == "incumbent" and metric == "recall_at_20" else 0.0
            interval = paired_interval(gains(trial.candidate, K), gains(theirs, K), trial.user, samples=rule.samples)
            yield _Test(rival, metric, interval, 0.0 - may_lose)


def _rivals(trial: Trial) -> dict[str, Ranks]:
    rivals = {"co_visit": trial.co_visit}
    return rivals if trial.incumbent is None else rivals | {"incumbent": trial.incumbent}


def _means(trial: Trial) -> dict[str, float]:
    everyone = {"candidate": trial.candidate} | _rivals(trial)
    return {
        f"{metric}_{name}": float(gains(ranks, K).mean())
        for name, ranks in everyone.items()
        for metric, gains in METRICS.items()
    }
