"""A release candidate and everything that it is compared with, on the same events."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.pipeline.feedback import NO_SLATE, NOT_ON_SLATE
from models.data.event_log import DAY_MS, NONE, EventLog
from models.data.history import visits
from models.evaluation.baselines import Baseline
from models.evaluation.prequential import BaselineRanks, Question, placement_questions, predict
from models.evaluation.seed_model_ranks import prediction_points_before, seed_ranks
from models.evaluation.slices import Mask, cut_slices, placement_slice, repeats
from models.metrics.ranking import Ranks
from models.offline.offline_ranker import OfflineRanker, OfflineRankings, rank_events
from models.seeds.seed_model import SeedModel
from models.stages import Advance


@dataclass(frozen=True)
class Contenders:
    """What the gate compares. All releases have the placements of the settings."""

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
    """Positions of the items of the same M events on each contender's slates of one placement."""

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
    placements: Mapping[str, PairedRanks] = field(default_factory=dict)
    """Each further placement → its ranks, on the events that it is for; those have no slices."""
    placed_elsewhere: frozenset[str] = frozenset()
    """Slices that further placements are for: their events have slates of their own there."""


def evaluate_contenders(
    contenders: Contenders,
    log: EventLog,
    start: int,
    domains: Sequence[str | None] = (),
    done: Advance = lambda n: None,
    propensity: NDArray[np.float64] | None = None,
) -> PairedRanks:
    """Rank the events from `start` on whose user has a slate, with every contender, on every placement.

    `domains` has each item's domain by item number, as far as the catalogue goes; `propensity` [N] says how likely each
    event's item was shown. Calls `done(n)` after every n events, `contenders.passes` times the log in all.

    The slates of a placement are made as though nothing stood on those before it (`Placement.without`): otherwise a
    release would lose on one what it wins on the other, and the baselines' slates leave out nothing either.
    """
    candidate = _rank(contenders.release_candidate, log, start, done)
    incumbent = None if contenders.incumbent is None else _rank(contenders.incumbent, log, start, done)
    scored, repeat = np.zeros(len(log), np.bool_), repeats(log)
    scored[start:] = (candidate.rank != NO_SLATE) & (log.item[start:] != NONE)
    questions = placement_questions(contenders.release_candidate.rules, scored, repeat)
    _learn(contenders.baselines, log, start, done)
    baselines = [contenders.co_visit, *contenders.baselines]
    predicted = predict(log, baselines, questions, done, trained_events=start)
    releases = _Releases(
        log,
        start,
        candidate=candidate.ranks,
        incumbent=None if incumbent is None else incumbent.ranks,
        earlier={id: _rank(load(), log, start, done).ranks for id, load in contenders.earlier.items()},
    )
    seed_models = [_seed_model_ranks(contenders.seed_models, log, question, len(domains)) for question in questions]
    first, *further = map(releases.paired, range(len(questions)), questions, predicted, seed_models)
    slices = cut_slices(log, start, np.flatnonzero(scored), repeat[scored], domains)
    placements = contenders.release_candidate.policy.placements[1:]
    return replace(
        first,
        slices=slices | {"first_of_session": np.array(predicted[0].first_of_session, np.bool_)},
        propensity=None if propensity is None else propensity[scored],
        shown_items=None if incumbent is None else (_shown(candidate), _shown(incumbent)),
        placements={placement.name: paired for placement, paired in zip(placements, further, strict=True)},
        placed_elsewhere=frozenset(filter(None, map(placement_slice, placements))),
    )


@dataclass(frozen=True)
class _Releases:
    """Ranks [N - start, P] of the releases for the events of a log from row `start` on, by placement."""

    log: EventLog
    start: int
    candidate: Ranks
    incumbent: Ranks | None
    earlier: Mapping[str, Ranks]

    def paired(
        self, placement: int, question: Question, baselines: BaselineRanks, seed_models: Mapping[str, Ranks]
    ) -> PairedRanks:
        """Those of one placement at the M events of its question, with those of baselines and seed models [M]."""
        rows = np.flatnonzero(question.events)
        column = rows - self.start, placement
        return PairedRanks(
            user=self.log.user[rows],
            release_candidate=self.candidate[column],
            incumbent=None if self.incumbent is None else self.incumbent[column],
            baselines={name: np.array(ranks, np.int32) for name, ranks in baselines.ranks.items()},
            seed_models=seed_models,
            earlier={id: ranks[column] for id, ranks in self.earlier.items()},
            day=self.log.ts[rows] // DAY_MS,
        )


def _rank(ranker: OfflineRanker, log: EventLog, start: int, done: Advance) -> OfflineRankings:
    """Rank the events from `start` on, each placement without regard to the others."""
    placements = tuple(msgspec.structs.replace(placement, without=()) for placement in ranker.policy.placements)
    return rank_events(replace(ranker, policy=replace(ranker.policy, placements=placements)), log, start, done)


def _learn(baselines: Sequence[Baseline], log: EventLog, start: int, done: Advance) -> None:
    """Train baselines on the events up to `start`."""
    if not baselines:
        return
    for visit in visits(log.take(slice(0, start))):
        for baseline in baselines:
            baseline.learn(*visit)
    done(len(log))


def _seed_model_ranks(models: Sequence[SeedModel], log: EventLog, question: Question, items: int) -> dict[str, Ranks]:
    """Ranks [M] of a question's events by each seed model of the first `items`; they know no others."""
    if not models:
        return {}
    rows, rules = np.flatnonzero(question.events), question.rules
    is_in_catalogue = log.item < items
    in_catalogue, ranked = log.take(is_in_catalogue), is_in_catalogue[rows]
    catalogue_rows = np.searchsorted(np.flatnonzero(is_in_catalogue), rows[ranked])
    points, item = prediction_points_before(in_catalogue, catalogue_rows, rules), in_catalogue.item[catalogue_rows]
    by_model = {}
    for model in models:
        by_model[model.name] = np.full(len(rows), NOT_ON_SLATE, np.int32)
        by_model[model.name][ranked] = seed_ranks(model, points, item, rules.slate)
    return by_model


def _shown(rankings: OfflineRankings) -> int:
    """Distinct items on the slates of a release."""
    return len(np.unique(rankings.slate[rankings.slate >= 0]))
