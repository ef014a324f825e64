"""Each seed model compared with the shared ranking, on prediction points that neither was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from anabranch.ranking.pipeline.feedback import NOT_ON_SLATE
from anabranch.ranking.pipeline.slates import ScoredCandidates
from models.data.event_log import NONE, EventLog
from models.data.sequences import Positions
from models.evaluation.paired_differences import OVERALL
from models.evaluation.seed_model_ranks import prediction_points_before, seed_ranks
from models.evaluation.slices import Mask, cut_slices, repeats
from models.evaluation.summaries import ImprovementByCutoff, Quality, improvement_by_cutoff
from models.metrics.ranking import Ranks
from models.offline.offline_ranker import OfflineRanker
from models.offline.ranking_lists import candidates_before
from models.seeds.seed_model import SeedModel
from models.stages import Done

MAX_HELD_OUT_SHARE = 0.1
"""At most this share of the prediction points is held out; the list ranker trains on the others."""


class SeedScore(Struct, frozen=True, kw_only=True):
    """One seed model, and the improvement of the shared ranking over it."""

    quality: Quality
    improvement: dict[str, ImprovementByCutoff]
    """Slice → shared ranking minus seed model; overall first."""


class SeedComparison(Struct, frozen=True, kw_only=True):
    """Every seed model and the shared ranking on the same held-out prediction points."""

    shared: Quality
    seeds: dict[str, SeedScore]
    events: dict[str, int]
    """Events by slice, overall first; slices without events are left out."""
    users: dict[str, int]
    """Users by slice, in the same order; intervals are over users."""


@dataclass(frozen=True)
class ComparisonPoints:
    """M prediction points reserved for evaluation, each right before an event of a log."""

    log: EventLog
    start: int
    """Seed models and encoder were trained on the rows before it."""
    rows: Positions  # [M] rows of the events, all from `start` on
    domains: Sequence[str | None]
    """Each item's domain, by item number."""


def draw_prediction_points(log: EventLog, start: int, count: int, random_seed: int) -> Positions:
    """Draw rows [M] of events about an item, from `start` on, whose user has an earlier event; ascending.

    M is `count`, or `MAX_HELD_OUT_SHARE` of such events if that is less.
    """
    rows = start + np.flatnonzero((log.previous()[start:] >= 0) & (log.item[start:] != NONE))
    drawn = min(count, int(MAX_HELD_OUT_SHARE * len(rows)))
    return np.sort(np.random.default_rng(random_seed).choice(rows, drawn, replace=False))


def compare_seed_models(
    seed_models: Sequence[SeedModel], shared: OfflineRanker, points: ComparisonPoints, done: Done = lambda share: None
) -> SeedComparison:
    """Score fitted seed models and the shared ranking at the held-out points, overall and by slice.

    Seed models, encoder and points number items alike. Only events of the points' users are replayed.
    """
    log, start, rows = points.log, points.start, points.rows
    next_item, user = log.item[rows], log.user[rows]
    cut = cut_slices(log, start, rows, repeats(log)[rows], points.domains)
    slices = {OVERALL: np.ones(len(rows), np.bool_), **cut}
    slices = {name: mask for name, mask in slices.items() if mask.any()}
    user_rows = np.flatnonzero(np.isin(log.user, user))
    log, start, rows = log.take(user_rows), int(np.searchsorted(user_rows, start)), np.searchsorted(user_rows, rows)
    contexts = prediction_points_before(log, rows, shared.rules)
    shared_ranks = ranks_at_rows(shared, log, start, rows)
    done(0.5)
    scores = {}
    for model in seed_models:
        ranks = seed_ranks(model, contexts, next_item, shared.layout.slate)
        scores[model.name] = _score(ranks, shared_ranks, user, slices)
        done(0.5 / len(seed_models))
    return SeedComparison(
        shared=Quality.from_ranks(shared_ranks),
        seeds=scores,
        events={name: int(mask.sum()) for name, mask in slices.items()},
        users={name: len(np.unique(user[mask])) for name, mask in slices.items()},
    )


def ranks_at_rows(ranker: OfflineRanker, log: EventLog, start: int, rows: Positions) -> Ranks:
    """Positions of the items of the events at rows [M], all from `start` on, on slates made right before the events."""
    slates = np.full((len(rows), ranker.layout.slate), -1, np.int32)
    for event, batch in candidates_before(ranker, log, start, rows):
        scored = ScoredCandidates.by_features(ranker.live, batch.queries, batch.candidates, batch.features)
        slates[event] = scored.best(ranker.policy, 0, ranker.layout.slate).items
    hit = slates == ranker.item_ids.rows(log.item_ids)[log.item[rows]][:, None]
    return np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, NOT_ON_SLATE).astype(np.int32)


def _score(ranks: Ranks, shared_ranks: Ranks, user: NDArray[np.int32], slices: dict[str, Mask]) -> SeedScore:
    return SeedScore(
        quality=Quality.from_ranks(ranks),
        improvement={
            name: improvement_by_cutoff(shared_ranks[mask], ranks[mask], user[mask]) for name, mask in slices.items()
        },
    )
