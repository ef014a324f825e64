"""The columns of candidates: which source proposes each, and what its features are made of."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.types import Counts, Floats, Rows, Seconds

NEVER_S = 2**32 - 1
"""First event time of an item that the user has had no event about."""
BY_OWN_EVENTS, BY_CO_VISITS, BY_RULES, BY_INDEX, BY_POPULARITY, BY_NEWNESS, BY_REQUEST = 1, 2, 4, 8, 16, 32, 64
"""The sources of candidates, as bits: the user's history and long-term items; the neighbours of the newest items; pins;
the items nearest to the user's vector; the most popular items; the nearest of the new items, to explore; what a request
asks for."""


class Candidates(NamedTuple):
    """N candidates of B queries, flat and grouped by query; an item is a candidate of a query at most once."""

    query: Counts  # [N] ascending
    item: Rows  # [N]
    proposed_by: NDArray[np.uint8]  # [N] the sources that propose it, one bit each
    co_visit_last: Floats  # [N] weight as a neighbour of the newest history item
    co_visit_recent: Floats  # [N] score by the co-visits of the newest items: see `CoVisitScoring`
    own: Floats  # [N] decayed count of the user's own events about it, 0 where there are none
    own_count: Floats  # [N] number of those events
    own_first_s: Seconds  # [N] time of the first
    own_last_s: Seconds  # [N] and of the last
    session_at: Counts  # [N] events since its last one in the current session, 0 for the newest; -1: none
    session_count: Counts  # [N] its events in the current session
    co_visit_session: Floats  # [N] sum of its weights as a neighbour of each item of the current session
    session_category: Counts  # [N] events of the current session about items of its category
    all_own: Floats  # [B] decayed count of all the user's own events

    @classmethod
    def empty(cls, n: int, queries: int) -> Candidates:
        """Room for n candidates."""
        return cls(
            query=np.empty(n, np.int32),
            item=np.empty(n, np.int32),
            proposed_by=np.zeros(n, np.uint8),
            co_visit_last=np.zeros(n, np.float32),
            co_visit_recent=np.zeros(n, np.float32),
            own=np.zeros(n, np.float32),
            own_count=np.zeros(n, np.float32),
            own_first_s=np.full(n, NEVER_S, np.uint32),
            own_last_s=np.zeros(n, np.uint32),
            session_at=np.full(n, -1, np.int32),
            session_count=np.zeros(n, np.int32),
            co_visit_session=np.zeros(n, np.float32),
            session_category=np.zeros(n, np.int32),
            all_own=np.zeros(queries, np.float32),
        )

    def first(self, n: int) -> Candidates:
        """The first n candidates."""
        return self._replace(**{name: getattr(self, name)[:n] for name in self._fields if name != "all_own"})
