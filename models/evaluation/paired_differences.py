"""Release candidate minus each comparator, by metric, overall and on every slice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from models.evaluation.contenders import PairedRanks
from models.evaluation.slices import Mask
from models.metrics.bootstrap import Bootstrap, resample_means
from models.metrics.ranking import Ranks, discounted_gains, hits, ndcg_at

METRICS = {"ndcg_at_20": discounted_gains, "recall_at_20": hits}
ON_SLICES = ("ndcg_at_20",)
"""Metrics that are compared on slices."""
K = 20
OVERALL = "overall"
INCUMBENT = "incumbent"
CO_VISIT = "co_visit"
SEED, EARLIER = "seed_", "earlier_"
"""How the names of seed models and earlier releases begin as comparators."""


@dataclass(frozen=True)
class Difference:
    """The difference of one metric's means to one comparator on one slice, with its bootstrap."""

    slice: str
    metric: str
    comparator: str
    users: int
    days: int
    """That were resampled besides the users; 1: users alone."""
    bootstrap: Bootstrap


def prefix(slice: str) -> str:
    """Prefix of the names of a slice's numbers; empty for overall numbers."""
    return "" if slice == OVERALL else f"{slice}/"


def comparators(paired: PairedRanks, mask: Mask | None = None) -> dict[str, Ranks]:
    """What the candidate is compared with on the events of a mask [M], by name: the incumbent, the best of the
    baselines, every seed model (`seed_NAME`), and the best of the earlier releases (`earlier_ID`). None: all events.
    Without an incumbent the co-visit table is among them, be it the best or not.

    The best baseline is the one with the highest NDCG@20 over all events. The best earlier release is the one with the
    highest on the events of the mask: releases get better overall one by one, so the best over all events is the
    newest of them, and a slice could be lost step by step.
    """
    incumbent = paired.incumbent
    compared = {CO_VISIT: paired.baselines[CO_VISIT]} if incumbent is None else {INCUMBENT: incumbent}
    compared |= _best(paired.baselines)
    compared |= {f"{SEED}{name}": ranks for name, ranks in paired.seed_models.items()}
    return compared | {f"{EARLIER}{id}": ranks for id, ranks in _best(paired.earlier, mask).items()}


def users_by_slice(paired: PairedRanks) -> dict[str, int]:
    """Users with events, overall and on each slice."""
    return {name: len(np.unique(paired.user[mask])) for name, mask in _slices(paired).items()}


def events_by_slice(paired: PairedRanks) -> dict[str, int]:
    """Events, overall and on each slice."""
    return {name: int(mask.sum()) for name, mask in _slices(paired).items()}


def mean_metrics(paired: PairedRanks) -> dict[str, float]:
    """METRIC_RANKER → mean over all events, of every baseline too."""
    rankers = {"candidate": paired.release_candidate} | comparators(paired) | dict(paired.baselines)
    return {
        f"{metric}_{name}": float(gains(ranks, K).mean())
        for name, ranks in rankers.items()
        for metric, gains in METRICS.items()
    }


def differences(paired: PairedRanks, samples: int) -> Iterator[Difference]:
    """Every difference; a slice without events has none. `samples` are drawn for each slice."""
    users = users_by_slice(paired)
    for slice, mask in _slices(paired).items():
        compared = comparators(paired, mask)
        for metric in METRICS if slice == OVERALL else ON_SLICES if users[slice] else ():
            rankings = [ranks[mask] for ranks in (paired.release_candidate, *compared.values())]
            gains = np.stack([METRICS[metric](ranks, K) for ranks in rankings])
            day = np.zeros(mask.sum(), np.int64) if paired.day is None else paired.day[mask]
            means, days = resample_means(gains, paired.user[mask], day, samples=samples), len(np.unique(day))
            for number, comparator in enumerate(compared, start=1):
                yield Difference(slice, metric, comparator, users[slice], days, means.difference(0, number))


def _best(rankings: Mapping[str, Ranks], mask: Mask | None = None) -> dict[str, Ranks]:
    """The one with the highest NDCG@20 on the events of the mask, with its ranks of all events."""
    if not rankings:
        return {}
    name = max(rankings, key=lambda name: ndcg_at(rankings[name][... if mask is None else mask], K))
    return {name: rankings[name]}


def _slices(paired: PairedRanks) -> dict[str, Mask]:
    return {OVERALL: np.ones(len(paired.user), np.bool_), **paired.slices}
