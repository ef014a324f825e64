"""Feedback: each event joined with the slates that its user had been shown."""

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
"""The rank of an event whose item was not on the slate that its user had been shown there."""
NO_PROPENSITY = 0.0
"""The propensity of an event whose item was not on the slate, or whose user's slate had no explored place."""


class FeedbackColumns(NamedTuple):
    """The slates of P placements that each user had when an event [B] happened."""

    shown_release: NDArray[np.int32]
    """[B] number of the release that made them, -1: none was shown"""
    shown_size: NDArray[np.int32]
    """[B] number of items on the first placement's"""
    ranks: NDArray[np.int32]
    """[B, P] position of the event's item on each, from 1; NOT_ON_SLATE or NO_SLATE"""
    propensity: NDArray[np.float64]
    """[B] probability with which the event's item was put on the first placement's, or NO_PROPENSITY"""

    @property
    def rank(self) -> NDArray[np.int32]:
        """[B] position of the event's item on the slate of the first placement"""
        return self.ranks[:, 0]


class NewSlates(NamedTuple):
    """The slates made after the events [B] of a batch."""

    ranked: Mask
    """[B] events with slates"""
    slates: Rows
    """[B, P, slate] -1 padded"""
    explored: Places
    """[B] of the first placement"""


@compiled
def join_feedback(
    columns: ActivityColumns,
    events: BatchColumns,
    duplicate: Mask,  # [B] they have no feedback
    new: NewSlates,
    release: int,  # number of the release that made them
) -> FeedbackColumns:
    """Look up each event's item on its user's last slates, then replace these if the event has new ones.

    So the last slates may be of an earlier event of the same batch.
    """
    n, placements, k = new.slates.shape
    shown_release, shown_size = np.empty(n, np.int32), np.zeros(n, np.int32)
    ranks, propensity = np.empty((n, placements), np.int32), np.full(n, NO_PROPENSITY)
    for b in range(n):
        slot = events.slots[b]
        shown_release[b] = -1 if duplicate[b] else columns.slate_release[slot]
        ranks[b] = NO_SLATE if shown_release[b] < 0 else NOT_ON_SLATE
        if duplicate[b]:
            continue
        for entry in range(placements * k):
            placement, position = entry // k, entry % k
            item = columns.slate[slot, entry]
            if placement == 0 and item >= 0:
                shown_size[b] += 1
            if item >= 0 and item == events.items[b] and ranks[b, placement] == NOT_ON_SLATE:
                ranks[b, placement] = position + 1
            if new.ranked[b]:
                columns.slate[slot, entry] = new.slates[b, placement, position]
        if ranks[b, 0] > 0 and columns.explored[slot] > 0:
            propensity[b] = 1 / EXPLORED_POOL if ranks[b, 0] > shown_size[b] - columns.explored[slot] else 1.0
        if new.ranked[b]:
            columns.slate_release[slot], columns.explored[slot] = release, new.explored[b]
    return FeedbackColumns(shown_release, shown_size, ranks, propensity)
