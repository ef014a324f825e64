"""Owners of visits that share items with a prediction point."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.jit import compiled
from anabranch.ranking.retrieval.candidates import HASH
from models.data.history import ItemHistory
from models.knn.visit_log import Numbers, VisitColumns, VisitLog

Scores = NDArray[np.float64]


class Query(NamedTuple):
    """A prediction point: its distinct newest items, and the weight of each."""

    item: NDArray[np.int32]  # [m], newest first
    weight: Scores  # [m]
    owner: int
    """The owner that is not compared: the user's own."""


class Matches(NamedTuple):
    """n owners that share an item with a prediction point."""

    visit: Numbers  # [n], number of their newest visit of the newest shared item
    similarity: Scores  # [n], sum of the weights of the shared items


def find_matches(log: VisitLog, query: Query, sampled: int) -> Matches:
    """The owners among the `sampled` newest that visited each item of the query.

    Owners of a single visit are left out: they have nothing else to vote for.
    """
    room = len(query.item) * sampled
    matches = Matches(np.empty(room, np.int64), np.empty(room, np.float64))
    visited = query.item < len(log.newest_of_item)
    query = Query(query.item[visited], query.weight[visited], query.owner)
    n = _match(matches, log.columns, log.newest_of_item, log.first, query, sampled)
    return Matches(matches.visit[:n], matches.similarity[:n])


def newest_items(history: ItemHistory, n: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The distinct items of the newest n events, newest first, and how many events ago each was."""
    age: dict[int, int] = {}
    for back, item in enumerate([*reversed(history.items)][:n]):
        age.setdefault(item, back)
    return np.array([*age], np.int32), np.array([*age.values()], np.int64)


def most_similar(matches: Matches, n: int) -> Matches:
    """The n most similar, the older first of those that are equal."""
    order = np.lexsort((matches.visit, -matches.similarity))[:n]
    return Matches(matches.visit[order], matches.similarity[order])


@compiled
def _match(matches: Matches, log: VisitColumns, newest: Numbers, first: int, query: Query, sampled: int) -> int:
    """Fill in the matches, and return their number. An open hash table finds the match of an owner."""
    size = 4
    while size < 2 * len(matches.visit):
        size *= 2
    owners, match_of = np.empty(size, np.int64), np.full(size, -1, np.int32)
    shared_last = np.empty(len(matches.visit), np.int32)
    n = 0
    for q in range(len(query.item)):
        visit, taken = newest[query.item[q]], 0
        while visit >= first and visit >= 0 and taken < sampled:
            at = visit % len(log.item)
            owner = log.owner[at]
            alone = log.before_of_owner[at] < 0 and log.after_of_owner[at] < 0
            if owner != query.owner and not alone:
                entry = (owner * HASH >> 12) & (size - 1)
                while match_of[entry] >= 0 and owners[entry] != owner:
                    entry = (entry + 1) & (size - 1)
                if match_of[entry] < 0:
                    owners[entry], match_of[entry] = owner, n
                    matches.visit[n], matches.similarity[n], shared_last[n] = visit, 0.0, -1
                    n += 1
                match = match_of[entry]
                if shared_last[match] != q:
                    shared_last[match] = q
                    matches.similarity[match] += query.weight[q]
                    taken += 1
            visit = log.before_of_item[at]
    return n


@compiled
def owner_ends(log: VisitColumns, visits: Numbers) -> Numbers:
    """The newest visit of the owner of each visit [n]."""
    ends = visits.copy()
    for n in range(len(ends)):
        while log.after_of_owner[ends[n] % len(log.item)] >= 0:
            ends[n] = log.after_of_owner[ends[n] % len(log.item)]
    return ends
