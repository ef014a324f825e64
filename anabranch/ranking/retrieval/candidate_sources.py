"""What candidates are united from: the items that each source proposes, the filter, and working memory."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from anabranch.ranking.item_classes import Classes
from anabranch.ranking.retrieval.co_visit_table import CoVisitColumns
from anabranch.ranking.types import Counts, Floats, Hashes, Mask, Rows
from anabranch.ranking.user_state.snapshot import UserSnapshots

FREE, EXCLUDED = -1, -2
"""Values of a hash table entry: unoccupied; its item is excluded."""


class Sources(NamedTuple):
    """What the candidates of B queries come from."""

    queries: UserSnapshots
    co_visits: CoVisitColumns
    newest: int
    """How many of a user's newest history items have their neighbours proposed."""
    weights: Floats
    """[W] weight of each of the newest history items in the co-visit score; see `CoVisitScoring`."""
    own_share: float
    categories: Hashes
    """[n] of the items, by row"""
    pinned: Rows
    """[m] items that rules pin"""
    popular: Rows
    """[p] the most popular items, which are proposed to users without a history"""
    new: Rows
    """[B, e] new items to explore, -1 padded"""
    retrieved: Rows
    """[B, K] what the item index found, best first, -1 padded: more than `ItemFilter.retrieval_k` admits."""


class ItemFilter(NamedTuple):
    """Which items are no candidates."""

    servable: Mask
    """[N] items that have a vector and are available."""
    hidden: Mask
    """[N] items that rules hide on every placement; empty if there are none."""
    candidate_classes: Classes
    """Items of other classes are excluded."""
    retrieval_classes: Classes
    """The classes that `retrieval_k` counts."""
    retrieval_k: int
    """How many of the retrieved items are candidates: the first ones that are counted, and others before them."""


class SourceEnds(NamedTuple):
    """Where each source's items end among all sources' items of one query; each starts at the end of the one before."""

    session: int
    """The newest part of the history."""
    history: int
    long_term: int
    pinned: int
    popular: int
    new: int
    co_visits: int
    retrieved: int


class Scratch(NamedTuple):
    """Working memory, used again by every query."""

    item: Rows
    """[S] the items of all sources, one source after the other; -1: none."""
    candidate: Counts
    """[S] which of the candidates each is; -1: none."""
    key: Rows
    """[T] open addressing: the item of an occupied entry."""
    value: Counts
    """[T] which of the candidates it is, `EXCLUDED`, or `FREE`."""
    category: Hashes
    """[H] categories of the items of the session"""

    @classmethod
    def empty(cls, items: int, history: int) -> Scratch:
        """Room for this many items of one query, and for its user's history. The hash table is at most half full."""
        size = 1 << (2 * items).bit_length()
        return cls(
            item=np.empty(items, np.int32),
            candidate=np.empty(items, np.int32),
            key=np.empty(size, np.int32),
            value=np.empty(size, np.int32),
            category=np.empty(history, np.uint64),
        )
