"""What each seed knows on its own: its lists for the very moments that a release is tested on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.candidates import Policy
from anabranch.ranking.core import NOT_ON_SLATE
from models.evaluation.metrics import Ranks
from models.log import EventLog
from models.seeds.seed import Seed
from models.sequences import Contexts, Positions, Sequences

RECENT = 64
"""Items a seed is shown of a moment, as many as a user state's history holds."""
AT_ONCE = 512


def moments_before(log: EventLog, rows: Positions) -> Contexts:
    """The moments right before the events at rows [M], each of which has an earlier event of its user."""
    order = np.lexsort((np.arange(len(log)), log.user))
    place = np.empty(len(log), np.int64)
    place[order] = np.arange(len(log))
    return Sequences.of(log).contexts(place[rows] - 1, RECENT)


def seed_ranks(seed: Seed, contexts: Contexts, wanted: NDArray[np.int32], policy: Policy) -> Ranks:
    """Where the wanted items [M] stand on a fitted seed's lists [M, slate], which pass the policy's filters."""
    ranks = np.full(len(contexts), NOT_ON_SLATE, np.int32)
    hidden = contexts.recent if policy.discover else contexts.recent[:, :0]
    for start in range(0, len(contexts), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        listed = seed.teach(contexts.part(part.start, part.stop), policy.slate + hidden.shape[1]).items
        may_be_shown = (listed >= 0) & ~(listed[:, :, None] == hidden[part][:, None, :]).any(axis=2)
        place = np.cumsum(may_be_shown, axis=1)
        hit = (listed == wanted[part][:, None]) & may_be_shown & (place <= policy.slate)
        ranks[part] = np.where(hit.any(axis=1), (place * hit).max(axis=1), NOT_ON_SLATE)
    return ranks
