"""Rotation: items that a user was shown, and did not take, rest for a while."""

from __future__ import annotations

import numpy as np

from anabranch.ranking.jit import compiled
from anabranch.ranking.types import Counts, Mask, Rows
from anabranch.ranking.user_state.snapshot import UserSnapshots


@compiled
def find_resting(
    queries: UserSnapshots,  # n
    query: Counts,  # [N] whose candidate it is
    item: Rows,  # [N]
    after: int,  # impressions
    rest_ms: int,
) -> Mask:
    """Which candidates [N] rest: their users were shown them at least `after` times since they last took an interest in
    them, the last time less than `rest_ms` ago."""
    resting = np.zeros(len(item), np.bool_)
    for c in range(len(item)):
        q = query[c]
        for entry in range(queries.shown_item.shape[1]):
            if queries.shown_item[q, entry] == item[c]:
                age_ms = queries.now[q] - np.int64(1000) * queries.shown_s[q, entry]
                resting[c] = queries.shown_count[q, entry] >= after and age_ms < rest_ms
                break
    return resting
