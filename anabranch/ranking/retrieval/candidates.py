"""Candidates: what retrieval proposes, from the index, the neighbours and the user's own items."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.jit import compiled
from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.co_visit_table import CoVisitColumns, CoVisitRows
from anabranch.ranking.retrieval.item_index import ItemIndex
from anabranch.ranking.types import Counts, Floats, Rows
from anabranch.ranking.user_state.snapshot import UserSnapshots

HASH = 0x9E3779B1
"""Spreads rows over a table: 2 ** 32 divided by the golden ratio (Knuth, The Art of Computer Programming, 6.4)."""
FREE, BARRED = -1, -2
"""Of a table of places: nobody has it; its item may not be shown."""
NEVER_S = 2**32 - 1


class Candidates(NamedTuple):
    """N candidates of B queries, flat, those of a query together; an item stands once per query."""

    query: Counts  # [N] ascending
    item: Rows  # [N]
    co_visit_last: Floats  # [N] weight as a neighbour of the newest item
    co_visit_recent: Floats  # [N] sum over the recent items, halved every two places back
    own: Floats  # [N] decayed count of the user's own events about it, 0 where there are none
    own_count: Floats  # [N] how many those are
    own_first_s: NDArray[np.uint32]  # [N] when the first was
    own_last_s: NDArray[np.uint32]  # [N] and the last
    session_at: Counts  # [N] how many events ago it was in the session, 0 the newest; -1 where it was not
    session_count: Counts  # [N] how often
    all_own: Floats  # [B] decayed count of all the user's own events

    @classmethod
    def blank(cls, n: int, queries: int) -> Candidates:
        """Room for n."""
        return cls(
            query=np.empty(n, np.int32),
            item=np.empty(n, np.int32),
            co_visit_last=np.zeros(n, np.float32),
            co_visit_recent=np.zeros(n, np.float32),
            own=np.zeros(n, np.float32),
            own_count=np.zeros(n, np.float32),
            own_first_s=np.full(n, NEVER_S, np.uint32),
            own_last_s=np.zeros(n, np.uint32),
            session_at=np.full(n, -1, np.int32),
            session_count=np.zeros(n, np.int32),
            all_own=np.zeros(queries, np.float32),
        )

    def first(self, n: int) -> Candidates:
        """The first n."""
        return self._replace(**{name: getattr(self, name)[:n] for name in self._fields if name != "all_own"})


def propose(
    queries: UserSnapshots, index: ItemIndex, neighbours: CoVisitRows, policy: Policy, own_half_life_s: int
) -> Candidates:
    """The union of index, neighbours, own and session's items, less what may not be shown."""
    found = index.search(queries.vector, policy.retrieval_k)[0]
    near = min(policy.recent, queries.recent.shape[1]) * neighbours.width
    most = queries.recent.shape[1] + queries.own_item.shape[1] + near + found.shape[1]
    some = Candidates.blank(len(found) * most, len(found))
    n = _unite(
        some,
        np.empty((2, 1 << (2 * most).bit_length()), np.int32),
        found,
        queries,
        neighbours.columns,
        index.columns.servable,
        near,
        policy.allow_session_repeats,
        policy.exclude_seen,
        own_half_life_s,
    )
    return some.first(n)


@compiled
def _unite(
    candidates: Candidates,  # blank, with room for all there can be
    table: Rows,  # [2, size] of open addressing: items, and the place of each among the candidates
    found: Rows,  # [B, retrieve]
    queries: UserSnapshots,
    neighbours: CoVisitColumns,
    servable: NDArray[np.bool_],  # [n]
    near_end: int,  # neighbours of the newest history items, all together
    allow_session_repeats: bool,
    exclude_seen: bool,
    half_life_s: int,
) -> int:
    """Fill in the candidates of B queries; how many they are."""
    recent, near, own_item = queries.recent, neighbours.rows, queries.own_item
    query, item = candidates.query, candidates.item
    co_visit_last, co_visit_recent = candidates.co_visit_last, candidates.co_visit_recent
    own, own_count = candidates.own, candidates.own_count
    own_first_s, own_last_s = candidates.own_first_s, candidates.own_last_s
    session_at, session_count = candidates.session_at, candidates.session_count
    width, size = near.shape[1], table.shape[1]
    n = 0
    for q in range(len(found)):
        for at in range(size):
            table[1, at] = FREE
        now_s = queries.now[q] / 1000
        own_from = recent.shape[1]  # what the history holds is the user's own too
        near_from = own_from + queries.own_size[q]
        found_from = near_from + near_end
        # One loop over all sources, with the look-up in it: a function of its own for that takes three times as long.
        for k in range(found_from + found.shape[1]):
            of, back, weight = -1, 0, np.float32(0)
            if k < own_from:
                one = recent[q, k]
                weight = np.float32(np.exp2((queries.recent_s[q, k] - now_s) / half_life_s)) if one >= 0 else weight
            elif k < near_from:
                one = own_item[q, k - own_from]
                weight = np.float32(np.exp2(queries.own_log[q, k - own_from] - now_s / half_life_s))
            elif k < found_from:
                back = (k - near_from) // width
                of = recent[q, back]
                one = near[of, (k - near_from) % width] if 0 <= of < len(near) else -1
            else:
                one = found[q, k - found_from]
            candidates.all_own[q] += weight
            if one < 0 or one >= len(servable) or not servable[one]:
                continue

            of_session = k < queries.session_length[q]
            at = (one * HASH >> 16) & (size - 1)
            while table[1, at] != FREE and table[0, at] != one:
                at = (at + 1) & (size - 1)
            if table[1, at] == FREE:
                table[0, at] = one
                if (of_session and not allow_session_repeats) or (k < near_from and exclude_seen):
                    table[1, at] = BARRED
                else:
                    table[1, at], query[n], item[n] = n, q, one
                    n += 1
            place = table[1, at]
            if place == BARRED:
                continue

            if of_session:
                session_count[place] += 1
                if session_at[place] < 0:
                    session_at[place] = k
            if k < own_from:
                own[place] += weight
                own_count[place] += 1
                own_first_s[place] = min(own_first_s[place], queries.recent_s[q, k])
                own_last_s[place] = max(own_last_s[place], queries.recent_s[q, k])
            elif k < near_from:
                own[place] += weight
                own_count[place] += queries.own_count[q, k - own_from]
                own_first_s[place] = min(own_first_s[place], queries.own_first_s[q, k - own_from])
                own_last_s[place] = max(own_last_s[place], queries.own_last_s[q, k - own_from])
            elif k < found_from:
                co_visit = neighbours.weights[of, (k - near_from) % width]
                co_visit_recent[place] += np.float32(0.5 ** (back / 2)) * co_visit
                if back == 0:
                    co_visit_last[place] += co_visit
    return n
