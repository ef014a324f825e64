"""Rotation: candidates that the user was shown often enough, and did not take, rest."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anabranch.placements import Rotation
from anabranch.ranking.jit import compiled
from anabranch.ranking.types import Counts, Mask, Rows, Seconds
from anabranch.ranking.user_state.snapshot import UserSnapshots


class Impressions(NamedTuple):
    """How N candidates were shown to their users since these last took an interest in them."""

    times: NDArray[np.uint8]
    """[N]"""
    since_ms: NDArray[np.int64]
    """[N] time since the last one; undefined where that is 0"""

    def resting(self, rotation: Rotation) -> Mask:
        """[N] which of them rest."""
        resting: Mask = (self.times >= rotation.after) & (self.since_ms < rotation.rest_ms)
        return resting


def impressions_of(queries: UserSnapshots, query: Counts, item: Rows) -> Impressions:
    """Those of the candidates [N] of n queries, of these items."""
    times, last_s = _find_shown(queries, query, item)
    return Impressions(times, queries.now[query] - 1000 * last_s.astype(np.int64))


@compiled
def _find_shown(queries: UserSnapshots, query: Counts, item: Rows) -> tuple[NDArray[np.uint8], Seconds]:
    times, last_s = np.zeros(len(item), np.uint8), np.zeros(len(item), np.uint32)
    for c in range(len(item)):
        q = query[c]
        for entry in range(queries.shown_item.shape[1]):
            if queries.shown_item[q, entry] == item[c]:
                times[c], last_s[c] = queries.shown_count[q, entry], queries.shown_s[q, entry]
                break
    return times, last_s
