"""Release candidate minus each baseline, by metric, overall and on every slice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from models.evaluation.contenders import PairedRanks
from models.evaluation.slices import Mask
from models.metrics.bootstrap import Bootstrap, paired_bootstrap
from models.metrics.ranking import Ranks, discounted_gains, hits

METRICS = {"ndcg_at_20": discounted_gains, "recall_at_20": hits}
K = 20
OVERALL = "overall"


@dataclass(frozen=True)
class Difference:
    """The difference of one metric's means to one baseline on one slice, with its bootstrap."""

    slice: str
    metric: str
    baseline: str
    users: int
    bootstrap: Bootstrap

    @property
    def name(self) -> str:
        """Name of the number in the manifest."""
        return f"{prefix(self.slice)}{self.metric}_minus_{self.baseline}"


def prefix(slice: str) -> str:
    """Prefix of the names of a slice's numbers; empty for overall numbers."""
    return "" if slice == OVERALL else f"{slice}/"


def users_by_slice(paired: PairedRanks) -> dict[str, int]:
    """Users with events, overall and on each slice."""
    return {name: len(np.unique(paired.user[mask])) for name, mask in _slices(paired).items()}


def events_by_slice(paired: PairedRanks) -> dict[str, int]:
    """Events, overall and on each slice."""
    return {name: int(mask.sum()) for name, mask in _slices(paired).items()}


def mean_metrics(paired: PairedRanks) -> dict[str, float]:
    """METRIC_RANKER → mean over all events."""
    rankers = {"candidate": paired.release_candidate} | _baselines(paired)
    return {
        f"{metric}_{name}": float(gains(ranks, K).mean())
        for name, ranks in rankers.items()
        for metric, gains in METRICS.items()
    }


def differences(paired: PairedRanks, samples: int) -> Iterator[Difference]:
    """Every difference; a slice without events has none. `samples` are drawn for each bootstrap."""
    users = users_by_slice(paired)
    for slice, mask in _slices(paired).items():
        for baseline, ranks in _baselines(paired).items() if users[slice] else ():
            for metric, gains in METRICS.items():
                ours, theirs = gains(paired.release_candidate[mask], K), gains(ranks[mask], K)
                bootstrap = paired_bootstrap(ours, theirs, paired.user[mask], samples=samples)
                yield Difference(slice, metric, baseline, users[slice], bootstrap)


def _slices(paired: PairedRanks) -> dict[str, Mask]:
    return {OVERALL: np.ones(len(paired.user), np.bool_), **paired.slices}


def _baselines(paired: PairedRanks) -> dict[str, Ranks]:
    ranks = {"co_visit": paired.co_visit}
    return ranks if paired.incumbent is None else ranks | {"incumbent": paired.incumbent}
