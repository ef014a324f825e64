"""Ranks of a seed model alone: its top items at the same prediction points that a release is evaluated on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.pipeline.feedback import NOT_ON_SLATE
from anabranch.ranking.policy import Policy
from models.data.event_log import EventLog
from models.data.sequences import Contexts, Positions, Sequences
from models.metrics.ranking import Ranks
from models.seeds.policy_filter import allowed_top_k, barred_items
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
    order = np.lexsort((np.arange(len(log)), log.user))  # as in the sequences
    position = np.empty(len(log), np.int64)
    position[order] = np.arange(len(log))
    sequences, previous = Sequences.from_log(log), position[rows] - 1
    contexts = sequences.contexts(previous, RECENT)
    return PredictionPoints(contexts, barred_items(sequences, previous, contexts, policy))


def seed_ranks(seed: SeedModel, points: PredictionPoints, next_item: NDArray[np.int32], slate: int) -> Ranks:
    """Positions of the next items [M] on a fitted seed model's slates [M, slate], without the excluded items."""
    ranks = np.full(len(points.contexts), NOT_ON_SLATE, np.int32)
    for start in range(0, len(ranks), BATCH):
        part = slice(start, start + BATCH)
        top = allowed_top_k(seed, points.contexts.part(part.start, part.stop), points.excluded[part], slate).items
        hit = top == next_item[part][:, None]
        ranks[part] = np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, NOT_ON_SLATE)
    return ranks
