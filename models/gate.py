"""The gate: whether a candidate may serve, by paired differences on events that nobody had seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.evaluation.bootstrap import Interval, paired_interval
from models.evaluation.metrics import Ranks, discounted_gains, hits

CANDIDATE = "candidate"
METRICS = {"ndcg_at_20": discounted_gains, "recall_at_20": hits}
K = 20


@dataclass(frozen=True)
class GateRule:
    """Primary metric NDCG@20, secondary recall@20; every bound is the lower end of a 95 % interval over users.

    The candidate must be better on the primary than whatever it would replace, and not worse on the secondary by
    more than `margin`; a release that only matches the incumbent is not worth a swap.
    """

    margin: float = 0.002
    """How much recall@20 may be given up, absolute."""
    users: int = 50
    """With fewer users an interval over users means little: nothing is released."""


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

    def __str__(self) -> str:
        lead = f"{self.interval.difference:+.4f} [{self.interval.low:+.4f}, {self.interval.high:+.4f}]"
        return f"{self.metric} - {self.rival} {lead}"


def judge(ranks: dict[str, Ranks], user: NDArray[np.integer], rule: GateRule) -> Verdict:
    """Compare `ranks["candidate"]` [M] with everyone else's on the same M events; `user` [M] says whose each is."""
    users = len(np.unique(user))
    numbers = {"events": float(len(user)), "users": float(users)}
    if users < rule.users:
        return Verdict(False, f"the gate's window has {users} users with slates, fewer than {rule.users}", numbers)
    tests = list(_tests(ranks, user, rule))
    numbers |= _means(ranks)
    for test in tests:
        lead = f"{test.metric}_minus_{test.rival}"
        numbers |= {
            lead: test.interval.difference,
            f"{lead}_low": test.interval.low,
            f"{lead}_high": test.interval.high,
        }
    failed = [test for test in tests if not test.holds]
    if failed:
        told = "; ".join(f"{test}, not above {test.above:g}" for test in failed)
        return Verdict(False, told, numbers)
    return Verdict(True, "; ".join(map(str, tests)), numbers)


def _tests(ranks: dict[str, Ranks], user: NDArray[np.integer], rule: GateRule) -> Iterator[_Test]:
    for rival, theirs in ranks.items():
        if rival == CANDIDATE:
            continue
        for metric, gains in METRICS.items():
            may_lose = rule.margin if rival == "incumbent" and metric == "recall_at_20" else 0.0
            interval = paired_interval(gains(ranks[CANDIDATE], K), gains(theirs, K), user)
            yield _Test(rival, metric, interval, 0.0 - may_lose)


def _means(ranks: dict[str, Ranks]) -> dict[str, float]:
    return {
        f"{metric}_{name}": float(np.mean(gains(places, K)))
        for name, places in ranks.items()
        for metric, gains in METRICS.items()
    }
