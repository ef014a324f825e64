"""Ranks of a seed model alone: its top items at the same prediction points that a release is evaluated on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.pipeline.feedback import NOT_ON_SLATE
from anabranch.ranking.policy import Policy
from models.data.event_log import NONE, EventLog
from models.data.sequences import Contexts, Positions, Sequences
from models.data.sessions import begins_session
from models.metrics.ranking import Ranks
from models.seeds.seed_model import SeedModel

RECENT = 64
"""Newest items that a seed model is given, as many as the history in a user state holds."""
BATCH = 512


@dataclass(frozen=True)
class PredictionPoints:
    """M prediction points, each right before an event."""

    contexts: Contexts
    excluded: NDArray[np.int32]  # [M, h] recent items that the serving policy filters; -1 padded


def prediction_points_before(log: EventLog, rows: Positions, policy: Policy) -> PredictionPoints:
    """The prediction points right before the events at rows [M], each of which has an earlier event of its user.

    Excluded are the items of the current session, or all recent items if the policy excludes everything seen.
    """
    order = _by_user(log)
    position = np.empty(len(log), np.int64)
    position[order] = np.arange(len(log))
    previous = position[rows] - 1
    contexts = Sequences.from_log(log).contexts(previous, RECENT)
    if policy.excludes(in_session=False):
        return PredictionPoints(contexts, contexts.recent)
    length = np.zeros(len(rows), np.int64)
    if policy.excludes(in_session=True):
        length = _session_lengths(log.take(order))[previous]
    longest = min(RECENT, int(length.max(initial=0)))
    newest = contexts.recent[:, :longest]
    return PredictionPoints(contexts, np.where(np.arange(longest) < length[:, None], newest, NONE).astype(np.int32))


def seed_ranks(seed: SeedModel, points: PredictionPoints, next_item: NDArray[np.int32], slate: int) -> Ranks:
    """Positions of the next items [M] on a fitted seed model's slates [M, slate], without the excluded items."""
    ranks = np.full(len(points.contexts), NOT_ON_SLATE, np.int32)
    for start in range(0, len(ranks), BATCH):
        part = slice(start, start + BATCH)
        excluded = points.excluded[part]
        top = seed.predict_top_k(points.contexts.part(part.start, part.stop), slate + excluded.shape[1]).items
        allowed = (top >= 0) & ~(top[:, :, None] == excluded[:, None, :]).any(axis=2)
        position = np.cumsum(allowed, axis=1)
        hit = (top == next_item[part][:, None]) & allowed & (position <= slate)
        ranks[part] = np.where(hit.any(axis=1), (position * hit).max(axis=1), NOT_ON_SLATE)
    return ranks


def _by_user(log: EventLog) -> Positions:
    """Rows in the order of user, then time."""
    return np.lexsort((np.arange(len(log)), log.user))


def _session_lengths(log: EventLog) -> Positions:
    """Events of the session up to and including each event [N]. The log is sorted by user, then time."""
    row = np.arange(len(log))
    first = np.maximum.accumulate(np.where(begins_session(log), row, 0))
    return row - first + 1
