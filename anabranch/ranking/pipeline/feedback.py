"""Feedback: each event joined with the slate that its user had been shown."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anabranch.messages import EXPLORED_POOL
from anabranch.ranking.event_batch import BatchColumns
from anabranch.ranking.jit import compiled
from anabranch.ranking.pipeline.exploration import Places
from anabranch.ranking.types import Mask, Rows
from anabranch.ranking.user_state.columns import ActivityColumns

NO_SLATE = -1
"""The rank of an event whose user had been shown nothing."""
NOT_ON_SLATE = 0
"""The rank of an event whose item was not on the slate that its user had been shown."""
NO_PROPENSITY = 0.0
"""The propensity of an event whose item was not on the slate, or whose user's slate had no explored place."""


class FeedbackColumns(NamedTuple):
    """The slate that each user had when an event [B] happened."""

    shown_release: NDArray[np.int32]
    """[B] number of the release that made it, -1: none was shown"""
    shown_size: NDArray[np.int32]
    """[B] number of items on it"""
    rank: NDArray[np.int32]
    """[B] position of the event's item on it, from 1; NOT_ON_SLATE or NO_SLATE"""
    propensity: NDArray[np.float64]
    """[B] probability with which the event's item was put on it, or NO_PROPENSITY"""


class NewSlates(NamedTuple):
    """The slates made after the events [B] of a batch."""

    ranked: Mask
    """[B] events with a slate"""
    slate: Rows
    """[B, slate] -1 padded"""
    explored: Places
    """[B]"""


@compiled
def join_feedback(
    columns: ActivityColumns,
    events: BatchColumns,
    duplicate: Mask,  # [B] they have no feedback
    new: NewSlates,
    release: int,  # number of the release that made them
) -> FeedbackColumns:
    """Look up each event's item on its user's last slate, then replace that slate if the event has a new one.

    So the last slate may be of an earlier event of the same batch.
    """
    n, k = new.slate.shape[0], columns.slate.shape[1]
    shown_release, shown_size, rank = np.empty(n, np.int32), np.zeros(n, np.int32), np.empty(n, np.int32)
    propensity = np.full(n, NO_PROPENSITY)
    for b in range(n):
        slot = events.slots[b]
        shown_release[b] = -1 if duplicate[b] else columns.slate_release[slot]
        rank[b] = NO_SLATE if shown_release[b] < 0 else NOT_ON_SLATE
        if duplicate[b]:
            continue
        for position in range(k):
            if columns.slate[slot, position] >= 0:
                shown_size[b] += 1
                if columns.slate[slot, position] == events.items[b] and rank[b] == NOT_ON_SLATE:
                    rank[b] = position + 1
        if rank[b] > 0 and columns.explored[slot] > 0:
            propensity[b] = 1 / EXPLORED_POOL if rank[b] > shown_size[b] - columns.explored[slot] else 1.0
        if new.ranked[b]:
            for position in range(k):
                columns.slate[slot, position] = new.slate[b, position]
            columns.slate_release[slot], columns.explored[slot] = release, new.explored[b]
    return FeedbackColumns(shown_release, shown_size, rank, propensity)
