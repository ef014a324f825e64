"""Exploration: the last places of a slate are drawn at random, so that it is known how likely each item was shown.

What users do with items that a ranker chose says little about the items that it did not choose. An item that is shown
with a known probability, its propensity, stands for all the times that it could have been shown (Horvitz & Thompson,
1952; Schnabel et al., 2016): `models.evaluation.off_policy` estimates from such events what another ranker is worth.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anabranch.messages import EXPLORED_POOL
from anabranch.ranking.event_batch import BatchColumns
from anabranch.ranking.jit import compiled, compiled_inline
from anabranch.ranking.pipeline.best_candidates import BestCandidates
from anabranch.ranking.pipeline.varied_candidates import Variety, is_full
from anabranch.ranking.types import Hashes, Positions

Places = NDArray[np.uint8]
"""[n] how many of the last places of a slate were drawn at random."""

DISPLACED = 2
"""Candidates that a new item in a pool may displace, see `put_new_items`."""
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""2 ** 64 divided by the golden ratio: the step of SplitMix64."""


class ExploredOrder(NamedTuple):
    """Which candidates stand on the slates of n queries."""

    candidate: Positions
    """[n, slate] index among the best candidates of the query"""
    explored: Places


def candidates_needed(slate: int, places: int) -> int:
    """How many candidates, best first, the slates of a policy are made of."""
    return slate + places * (EXPLORED_POOL - 1)


def draw_keys(events: BatchColumns, ranked: Positions) -> Hashes:
    """Keys [A] that decide what is drawn after the events `ranked` [A].

    A key depends on nothing but the event, so that an event that is ranked again, after a crash or elsewhere, has the
    same slate. Ids alone would not do: where each user's events are counted from 1, all users would draw alike.
    """
    keys: Hashes = events.keys[ranked] ^ (events.ts[ranked].astype(np.uint64) * GOLDEN)
    return keys


@compiled
def put_new_items(best: BestCandidates, new: BestCandidates, variety: Variety, k: int) -> BestCandidates:
    """The best candidates [n, k] with new items [n, e] in the pools of the explored places, which are the last ones.

    New items take the last e places, unless they are before them already. Where they are fewer, or limits admit fewer,
    the best others [n, more than k] come next: a new item may stand for two others, one of its brand and one of its
    category. A query with fewer than k - e others has no new items: not all of them would stand in its pool.
    """
    n, e = new.candidate.shape
    filled_in = BestCandidates(
        np.full((n, k), -1, np.int32), np.zeros((n, k), np.float32), np.full((n, k), -1, np.int64)
    )
    for q in range(n):
        of_new = e if best.candidate[q, k - e - 1] >= 0 else 0
        first = k - of_new
        candidate = np.concatenate((best.candidate[q, :first], new.candidate[q, :of_new], best.candidate[q, first:]))
        items = np.concatenate((best.items[q, :first], new.items[q, :of_new], best.items[q, first:]))
        scores = np.concatenate((best.scores[q, :first], new.scores[q, :of_new], best.scores[q, first:]))
        filled = 0
        for index in range(len(candidate)):
            c = candidate[index]
            if filled == k:
                break
            is_there = (filled_in.candidate[q, :filled] == c).any()
            if c < 0 or is_there or (index >= first and is_full(variety, filled_in.candidate, q, filled, c)):
                continue
            filled_in.candidate[q, filled], filled_in.items[q, filled] = c, items[index]
            filled_in.scores[q, filled] = scores[index]
            filled += 1
    return filled_in


@compiled
def explore(keys: Hashes, candidates: Positions, slate: int, places: int) -> ExploredOrder:
    """Draw up to `places` last places of each slate, from the queries' numbers of `candidates` [n].

    Each explored place adds `EXPLORED_POOL` candidates to the pool, those after the exploited ones, and the
    places are drawn uniformly from the pool without replacement. So each item of the pool is shown with probability
    1 / `EXPLORED_POOL`, and those before it with probability 1. Where there are too few candidates, fewer places are
    explored, or none.
    """
    n, largest = len(keys), slate + places * (EXPLORED_POOL - 1)
    order, explored = np.empty((n, slate), np.int64), np.zeros(n, np.uint8)
    pool = np.empty(places * EXPLORED_POOL, np.int64)
    for q in range(n):
        drawn = max(min(candidates[q], largest) - slate, 0) // (EXPLORED_POOL - 1)
        for place in range(slate):
            order[q, place] = place
        for index in range(drawn * EXPLORED_POOL):
            pool[index] = slate - drawn + index
        for index in range(drawn):  # the first steps of a Fisher-Yates shuffle
            remaining = drawn * EXPLORED_POOL - index
            other = index + np.int64(_mixed(keys[q] + np.uint64(index + 1) * GOLDEN) % np.uint64(remaining))
            pool[index], pool[other] = pool[other], pool[index]
            order[q, slate - drawn + index] = pool[index]
        explored[q] = drawn
    return ExploredOrder(order, explored)


@compiled_inline
def _mixed(key: np.uint64) -> np.uint64:
    """64 random bits of a key (SplitMix64; Steele, Lea & Flood, 2014)."""
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))
