"""A release candidate and everything that it is compared with, on the same events."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.pipeline.feedback import NO_SLATE, NOT_ON_SLATE
from models.data.event_log import DAY_MS, NONE, EventLog
from models.data.excluded_items import SlateRules
from models.data.history import visits
from models.evaluation.baselines import Baseline
from models.evaluation.prequential import Question, predict
from models.evaluation.seed_model_ranks import prediction_points_before, seed_ranks
from models.evaluation.slices import Mask, cut_slices, repeats
from models.metrics.ranking import Ranks
from models.offline.offline_ranker import OfflineRanker, OfflineRankings, rank_events
from models.seeds.seed_model import SeedModel
from models.stages import Advance


@dataclass(frozen=True)
class Contenders:
    """What the gate compares."""

    release_candidate: OfflineRanker
    incumbent: OfflineRanker | None
    """The release that serves; None before the first one."""
    co_visit: Baseline
    """Trained on the log up to the compared events."""
    baselines: Sequence[Baseline] = ()
    """Others, not trained."""
    seed_models: Sequence[SeedModel] = ()
    """Those that the candidate learned from, fitted. Their item numbers are rows of the catalogue."""
    earlier: Mapping[str, Callable[[], OfflineRanker]] = field(default_factory=dict)
    """Releases that served before the incumbent, by id. Each is loaded when it ranks: only one is in memory."""

    @property
    def passes(self) -> int:
        """How often the log is gone through."""
        return 2 + (self.incumbent is not None) + len(self.earlier) + bool(self.baselines)


@dataclass(frozen=True)
class PairedRanks:
    """Positions of the items of the same M events on each contender's slates."""

    user: NDArray[np.int32]  # [M]
    release_candidate: Ranks  # [M]
    incumbent: Ranks | None  # [M], None without an incumbent
    baselines: Mapping[str, Ranks]
    """Baseline → [M]; they learn each event after predicting it."""
    seed_models: Mapping[str, Ranks] = field(default_factory=dict)
    """Seed model → [M]."""
    earlier: Mapping[str, Ranks] = field(default_factory=dict)
    """Id of an earlier release → [M]."""
    slices: Mapping[str, Mask] = field(default_factory=dict)
    """Slice → mask [M] of its events; see `cut_slices`, and `first_of_session`."""
    day: NDArray[np.int64] | None = None
    """[M] the UTC day of each event; None: all of one day"""
    propensity: NDArray[np.float64] | None = None
    """[M] probability with which the event's item was shown, NaN where that is not known; None: nowhere"""
    shown_items: tuple[int, int] | None = None
    """Distinct items on the slates of candidate and incumbent in the events' time; None without an incumbent."""


def evaluate_contenders(
    contenders: Contenders,
    log: EventLog,
    start: int,
    domains: Sequence[str | None] = (),
    done: Advance = lambda n: None,
    propensity: NDArray[np.float64] | None = None,
) -> PairedRanks:
    """Rank the events from `start` on whose user has a slate, with every contender.

    `domains` has each item's domain by item number, as far as the catalogue goes; `propensity` [N] says how likely each
    event's item was shown. Calls `done(n)` after every n events, `contenders.passes` times the log in all.
    """
    candidate = rank_events(contenders.release_candidate, log, start, done)
    incumbent = None if contenders.incumbent is None else rank_events(contenders.incumbent, log, start, done)
    compared = (candidate.rank != NO_SLATE) & (log.item[start:] != NONE)
    rows, rules = start + np.flatnonzero(compared), contenders.release_candidate.rules
    scored = np.zeros(len(log), np.bool_)
    scored[rows] = True
    _learn(contenders.baselines, log, start, done)
    baselines = [contenders.co_visit, *contenders.baselines]
    [predicted] = predict(log, baselines, [Question(scored, rules)], done, trained_events=start)
    slices = cut_slices(log, start, rows, repeats(log)[rows], domains)
    return PairedRanks(
        user=log.user[rows],
        release_candidate=candidate.rank[compared],
        incumbent=None if incumbent is None else incumbent.rank[compared],
        baselines={name: np.array(ranks, np.int32) for name, ranks in predicted.ranks.items()},
        seed_models={
            model.name: _seed_model_ranks(model, log, rows, rules, len(domains)) for model in contenders.seed_models
        },
        earlier={id: rank_events(load(), log, start, done).rank[compared] for id, load in contenders.earlier.items()},
        slices=slices | {"first_of_session": np.array(predicted.first_of_session, np.bool_)},
        day=log.ts[rows] // DAY_MS,
        propensity=None if propensity is None else propensity[rows],
        shown_items=None if incumbent is None else (_shown(candidate), _shown(incumbent)),
    )


def _learn(baselines: Sequence[Baseline], log: EventLog, start: int, done: Advance) -> None:
    """Train baselines on the events up to `start`."""
    if not baselines:
        return
    for visit in visits(log.take(slice(0, start))):
        for baseline in baselines:
            baseline.learn(*visit)
    done(len(log))


def _seed_model_ranks(model: SeedModel, log: EventLog, rows: NDArray[np.int64], rules: SlateRules, items: int) -> Ranks:
    """Ranks [M] of the events at `rows` by a seed model of the first `items`; it knows no others."""
    is_in_catalogue = log.item < items
    in_catalogue = log.take(is_in_catalogue)
    ranks = np.full(len(rows), NOT_ON_SLATE, np.int32)
    ranked = is_in_catalogue[rows]
    catalogue_rows = np.searchsorted(np.flatnonzero(is_in_catalogue), rows[ranked])
    points = prediction_points_before(in_catalogue, catalogue_rows, rules)
    ranks[ranked] = seed_ranks(model, points, in_catalogue.item[catalogue_rows], rules.slate)
    return ranks


def _shown(rankings: OfflineRankings) -> int:
    """Distinct items on the slates of a release."""
    return len(np.unique(rankings.slate[rankings.slate >= 0]))
