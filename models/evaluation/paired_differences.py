"""Release candidate minus each comparator, by metric, overall, on every slice and on every further placement."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
PLACEMENT = "placement:"
"""How the slice begins that has the events of a further placement."""
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


def placements_as_slices(paired: PairedRanks) -> PairedRanks:
    """The same ranks with those of the further placements, [M + M'], each placement's as a slice `placement:NAME`.

    The events of a further placement come after those of the first, so an event is there once for each placement that
    is for it. `overall` stays the first placement, and so do the slices; days are kept, what else M events have is not.
    """
    if not paired.placements:
        return paired
    parts = [paired, *paired.placements.values()]
    part = np.repeat(np.arange(len(parts)), [len(of_placement.user) for of_placement in parts])
    incumbents = [of_placement.incumbent for of_placement in parts if of_placement.incumbent is not None]

    def joined(ranks: Callable[[PairedRanks], Mapping[str, Ranks]]) -> dict[str, Ranks]:
        return {name: np.concatenate([ranks(of_placement)[name] for of_placement in parts]) for name in ranks(paired)}

    slices = {OVERALL: part == 0}
    slices |= {name: np.pad(mask, (0, len(part) - len(mask))) for name, mask in paired.slices.items()}
    slices |= {f"{PLACEMENT}{name}": part == number for number, name in enumerate(paired.placements, start=1)}
    return PairedRanks(
        user=np.concatenate([of_placement.user for of_placement in parts]),
        release_candidate=np.concatenate([of_placement.release_candidate for of_placement in parts]),
        incumbent=np.concatenate(incumbents) if incumbents else None,
        baselines=joined(lambda paired: paired.baselines),
        seed_models=joined(lambda paired: paired.seed_models),
        earlier=joined(lambda paired: paired.earlier),
        slices=slices,
        day=np.concatenate([_days(of_placement) for of_placement in parts]),
        placed_elsewhere=paired.placed_elsewhere,
    )


def comparators(paired: PairedRanks, slice: str = OVERALL) -> dict[str, Ranks]:
    """What the candidate is compared with on a slice, by name, each with its ranks of all events: the incumbent, the
    best of the baselines, every seed model (`seed_NAME`), and the best of the earlier releases (`earlier_ID`). Without
    an incumbent the co-visit table is among them, be it the best or not.

    The best baseline is the one with the highest NDCG@20 overall, or on a further placement. The best earlier release
    is the one with the highest on the slice: releases get better overall one by one, so the best overall is the newest
    of them, and a slice could be lost step by step.
    """
    slices, incumbent = _slices(paired), paired.incumbent
    compared = {CO_VISIT: paired.baselines[CO_VISIT]} if incumbent is None else {INCUMBENT: incumbent}
    compared |= _best(paired.baselines, slices[slice if slice.startswith(PLACEMENT) else OVERALL])
    compared |= {f"{SEED}{name}": ranks for name, ranks in paired.seed_models.items()}
    return compared | {f"{EARLIER}{id}": ranks for id, ranks in _best(paired.earlier, slices[slice]).items()}


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
        compared = comparators(paired, slice)
        for metric in METRICS if slice == OVERALL else ON_SLICES if users[slice] else ():
            rankings = [ranks[mask] for ranks in (paired.release_candidate, *compared.values())]
            gains = np.stack([METRICS[metric](ranks, K) for ranks in rankings])
            day = _days(paired)[mask]
            means, days = resample_means(gains, paired.user[mask], day, samples=samples), len(np.unique(day))
            for number, comparator in enumerate(compared, start=1):
                yield Difference(slice, metric, comparator, users[slice], days, means.difference(0, number))


def _best(rankings: Mapping[str, Ranks], mask: Mask) -> dict[str, Ranks]:
    """The one with the highest NDCG@20 on the events of the mask, with its ranks of all events."""
    if not rankings:
        return {}
    name = max(rankings, key=lambda name: ndcg_at(rankings[name][mask], K))
    return {name: rankings[name]}


def _slices(paired: PairedRanks) -> dict[str, Mask]:
    """All slices, `overall` first: all events, unless there are those of further placements."""
    return {OVERALL: np.ones(len(paired.user), np.bool_), **paired.slices}


def _days(paired: PairedRanks) -> NDArray[np.int64]:
    return np.zeros(len(paired.user), np.int64) if paired.day is None else paired.day
