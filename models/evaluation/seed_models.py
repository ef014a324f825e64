"""What each seed knows on its own: its lists for the very moments that a release is tested on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.pipeline.rank import NOT_ON_SLATE
from anabranch.ranking.policy import Policy
from models.data.event_log import NONE, EventLog
from models.data.sequences import Contexts, Positions, Sequences
from models.data.sessions import begins_session
from models.metrics.ranking import Ranks
from models.seeds.seed_model import SeedModel

RECENT = 64
"""Items a seed is shown of a moment, as many as a user state's history holds."""
AT_ONCE = 512


@dataclass(frozen=True)
class Moments:
    """M moments, each right before an event."""

    contexts: Contexts
    hidden: NDArray[np.int32]  # [M, h] of the recent items, those that may not be shown; -1 padded


def moments_before(log: EventLog, rows: Positions, policy: Policy) -> Moments:
    """The moments right before the events at rows [M], each of which has an earlier event of its user.

    A slate then may not hold what the policy filters: the session's items, or all that were had where it discovers.
    """
    order = _by_user(log)
    place = np.empty(len(log), np.int64)
    place[order] = np.arange(len(log))
    at = place[rows] - 1
    contexts = Sequences.from_log(log).contexts(at, RECENT)
    if policy.exclude_seen:
        return Moments(contexts, contexts.recent)
    length = np.zeros(len(rows), np.int64) if policy.allow_session_repeats else _session_lengths(log.take(order))[at]
    longest = min(RECENT, int(length.max(initial=0)))
    newest = contexts.recent[:, :longest]
    return Moments(contexts, np.where(np.arange(longest) < length[:, None], newest, NONE).astype(np.int32))


def seed_ranks(seed: SeedModel, moments: Moments, wanted: NDArray[np.int32], slate: int) -> Ranks:
    """Where the wanted items [M] stand on a fitted seed's slates [M, slate]: its lists without what is hidden."""
    ranks = np.full(len(moments.contexts), NOT_ON_SLATE, np.int32)
    for start in range(0, len(ranks), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        hidden = moments.hidden[part]
        listed = seed.predict_top_k(moments.contexts.part(part.start, part.stop), slate + hidden.shape[1]).items
        may_be_shown = (listed >= 0) & ~(listed[:, :, None] == hidden[:, None, :]).any(axis=2)
        place = np.cumsum(may_be_shown, axis=1)
        hit = (listed == wanted[part][:, None]) & may_be_shown & (place <= slate)
        ranks[part] = np.where(hit.any(axis=1), (place * hit).max(axis=1), NOT_ON_SLATE)
    return ranks


def _by_user(log: EventLog) -> Positions:
    """Rows sorted by user, then time."""
    return np.lexsort((np.arange(len(log)), log.user))


def _session_lengths(log: EventLog) -> Positions:
    """Events of its session so far, [N], for each event of a log that is sorted by user, then time."""
    row = np.arange(len(log))
    first = np.maximum.accumulate(np.where(begins_session(log), row, 0))
    return row - first + 1
