"""The candidate of a trial minus each rival, by each metric, on all events and on each slice of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from models.evaluation.protocols import Trial
from models.evaluation.slices import Mask
from models.metrics.bootstrap import Bootstrap, paired_bootstrap
from models.metrics.ranking import Ranks, discounted_gains, hits

METRICS = {"ndcg_at_20": discounted_gains, "recall_at_20": hits}
K = 20
OVERALL = "overall"


@dataclass(frozen=True)
class Difference:
    """Of one metric's means, to one rival, on one slice, and how sure it is."""

    slice: str
    metric: str
    rival: str
    users: int
    bootstrap: Bootstrap

    @property
    def name(self) -> str:
        """What its number is called."""
        return f"{prefix(self.slice)}{self.metric}_minus_{self.rival}"


def prefix(slice: str) -> str:
    """What the names of a slice's numbers begin with; nothing overall."""
    return "" if slice == OVERALL else f"{slice}/"


def users_of(trial: Trial) -> dict[str, int]:
    """Users with events, overall and on each slice."""
    return {name: len(np.unique(trial.user[where])) for name, where in _slices(trial).items()}


def events_of(trial: Trial) -> dict[str, int]:
    """Events, overall and on each slice."""
    return {name: int(where.sum()) for name, where in _slices(trial).items()}


def means_of(trial: Trial) -> dict[str, float]:
    """METRIC_RANKER → mean over all events."""
    everyone = {"candidate": trial.candidate} | _rivals(trial)
    return {
        f"{metric}_{name}": float(gains(ranks, K).mean())
        for name, ranks in everyone.items()
        for metric, gains in METRICS.items()
    }


def differences(trial: Trial, samples: int) -> Iterator[Difference]:
    """All there are; a slice without events has none. `samples` is the bootstrap's."""
    users = users_of(trial)
    for slice, where in _slices(trial).items():
        for rival, ranks in _rivals(trial).items() if users[slice] else ():
            for metric, gains in METRICS.items():
                ours, theirs = gains(trial.candidate[where], K), gains(ranks[where], K)
                bootstrap = paired_bootstrap(ours, theirs, trial.user[where], samples=samples)
                yield Difference(slice, metric, rival, users[slice], bootstrap)


def _slices(trial: Trial) -> dict[str, Mask]:
    return {OVERALL: np.ones(len(trial.user), np.bool_), **trial.slices}


def _rivals(trial: Trial) -> dict[str, Ranks]:
    rivals = {"co_visit": trial.co_visit}
    return rivals if trial.incumbent is None else rivals | {"incumbent": trial.incumbent}
