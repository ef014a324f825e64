"""Ranks of a seed model alone: its top items at the same prediction points that a release is evaluated on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.pipeline.feedback import NOT_ON_SLATE
from models.data.event_log import NONE, EventLog
from models.data.excluded_items import SlateRules, excluded_items, own_items
from models.data.sequences import Contexts, Positions, Sequences
from models.metrics.ranking import Ranks
from models.seeds.policy_filter import allowed_top_k
from models.seeds.seed_model import SeedModel

BATCH = 512


@dataclass(frozen=True)
class PredictionPoints:
    """M prediction points, each right before an event."""

    contexts: Contexts
    excluded: NDArray[np.int32]  # [M, h] recent items that the serving policy filters; -1 padded
    among: NDArray[np.int32] | None = None  # [M, w] the items of which slates are made, -1 padded; None: of all


def prediction_points_before(log: EventLog, rows: Positions, rules: SlateRules) -> PredictionPoints:
    """The prediction points right before the events at rows [M].

    A seed model is given as many of the newest items as a user state holds. Excluded is what a ranker would exclude,
    and where the placement is for the user's own items, slates are made of these alone.
    """
    item_rows = np.flatnonzero(log.item != NONE)
    visits = log.take(item_rows)
    order = np.lexsort((np.arange(len(visits)), visits.user))  # of user, then time
    position = np.empty(len(visits), np.int64)
    position[order] = np.arange(len(visits))
    row = np.searchsorted(item_rows, rows)
    contexts = Sequences.from_log(visits).contexts(np.maximum(position[row] - 1, 0), rules.layout.history)
    has_items = visits.previous()[row] >= 0  # an earlier event may be a search
    if not has_items.all():
        contexts = replace(
            contexts.only(np.broadcast_to(has_items[:, None], contexts.recent.shape)), user=log.user[rows]
        )
    among = own_items(log, rows, rules).padded() if rules.placement.repeats == "only" else None
    return PredictionPoints(contexts, excluded_items(log, rows, rules).padded(), among)


def seed_ranks(seed: SeedModel, points: PredictionPoints, next_item: NDArray[np.int32], slate: int) -> Ranks:
    """Positions of the next items [M] on a fitted seed model's slates [M, slate] of the items that may be shown."""
    ranks = np.full(len(points.contexts), NOT_ON_SLATE, np.int32)
    for start in range(0, len(ranks), BATCH):
        part = slice(start, start + BATCH)
        contexts = points.contexts.part(part.start, part.stop)
        among = None if points.among is None else points.among[part]
        top = allowed_top_k(seed, contexts, points.excluded[part], slate, among).items
        hit = top == next_item[part][:, None]
        ranks[part] = np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, NOT_ON_SLATE)
    return ranks
