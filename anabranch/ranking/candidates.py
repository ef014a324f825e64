"""Candidates: what retrieval proposes, from the index, the neighbours and the user's own items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.compiled import compiled
from anabranch.ranking.index import ItemIndex
from anabranch.ranking.index_base import Vectors
from anabranch.ranking.item_ids import Rows
from anabranch.ranking.neighbours import NeighbourTable
from anabranch.ranking.state import Slots, UserStates
from anabranch.settings import Settings

Floats = NDArray[np.float32]
Positions = NDArray[np.int64]
Counts = NDArray[np.int32]

HASH = 0x9E3779B1
"""Spreads rows over a table: 2 ** 32 divided by the golden ratio (Knuth, The Art of Computer Programming, 6.4)."""
FREE, BARRED = -1, -2
"""Of a table of places: nobody has it; its item may not be shown."""


@dataclass(frozen=True)
class Policy:
    """What may be proposed and shown."""

    slate: int = 20
    retrieve: int = 100
    """Items asked of the index."""
    neighbours: int = 20
    """Neighbours proposed of each of the newest history items."""
    recent: int = 10
    """How many history items that is."""
    discover: bool = False
    """Filter what is among the user's own items: for discovery, where a repeat is no news."""
    session_repeats: bool = False
    """Show what the session holds again: where people go back and forth between items, as on a marketplace."""
    latest: bool = False
    """Make one slate for each user of a batch, after their last event in it, and none after the others."""
    purchase: bool = False
    """Tell how probable the purchase of each shown item is, where the release has that head."""

    @classmethod
    def of(cls, settings: Settings) -> Policy:
        """As the settings say."""
        return cls(
            slate=settings.slate_size,
            retrieve=settings.retrieve,
            neighbours=settings.neighbours,
            discover=settings.discover,
            session_repeats=settings.session_repeats,
            latest=settings.rank == "latest",
            purchase=settings.publish_purchase,
        )


@dataclass(frozen=True)
class Queries:
    """What ranking needs of B user states, as they stood right after each event."""

    vector: Vectors  # [B, d]
    now: NDArray[np.int64]  # [B] ms, the user's newest event
    recent: Rows  # [B, H] newest first, -1 padded
    session_length: Counts  # [B] how many of those are the session's
    own_item: Rows  # [B, M]
    own_log: Floats  # [B, M]
    own_count: Floats  # [B, M]
    own_first_s: NDArray[np.int64]  # [B, M]
    own_last_s: NDArray[np.int64]  # [B, M]

    def __len__(self) -> int:
        return len(self.now)

    @classmethod
    def of(cls, states: UserStates, slots: Slots) -> Queries:
        """A copy of what the slots [B] hold now."""
        columns = states.columns
        return cls(
            vector=columns.vector[slots],
            now=columns.last_ts[slots],
            recent=states.recent(slots, states.layout.history),
            session_length=columns.session_length[slots],
            own_item=columns.own_item[slots],
            own_log=columns.own_log[slots],
            own_count=columns.own_count[slots],
            own_first_s=columns.own_first_s[slots],
            own_last_s=columns.own_last_s[slots],
        )

    def part(self, start: int, end: int) -> Queries:
        """Those from `start` to before `end`."""
        return Queries(*(getattr(self, field.name)[start:end] for field in fields(self)))

    @classmethod
    def concatenate(cls, parts: Sequence[Queries], order: Positions) -> Queries:
        """The parts end to end, then put in `order` [B]."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts])[order] for field in fields(cls)))


class Candidates(NamedTuple):
    """N candidates of B queries, flat, those of a query together; an item stands once per query."""

    query: Counts  # [N] ascending
    item: Rows  # [N]
    co_visit_last: Floats  # [N] weight as a neighbour of the newest item
    co_visit_recent: Floats  # [N] sum over the recent items, halved every two places back
    own_at: Counts  # [N] place among the user's own items, -1 where it is none of them
    session_at: Counts  # [N] how many events ago it was in the session, 0 the newest; -1 where it was not
    session_count: Counts  # [N] how often


def propose(queries: Queries, index: ItemIndex, neighbours: NeighbourTable, policy: Policy) -> Candidates:
    """The union of index, neighbours, own and session's items, less what may not be shown."""
    return _unite(
        index.search(queries.vector, policy.retrieve)[0],
        queries.recent,
        queries.session_length,
        queries.own_item,
        neighbours.columns.rows,
        neighbours.columns.weights,
        index.columns.servable,
        policy.recent,
        policy.session_repeats,
        policy.discover,
    )


@compiled
def _unite(
    found: Rows,  # [B, retrieve]
    recent: Rows,  # [B, H] newest first
    session_length: Counts,  # [B] how many of those are the session's
    own: Rows,  # [B, M]
    near: Rows,  # [n, W] neighbours by item
    weights: Floats,  # [n, W]
    servable: NDArray[np.bool_],  # [n]
    newest: int,  # history items whose neighbours count
    session_repeats: bool,
    discover: bool,
) -> Candidates:
    width = near.shape[1]
    near_end = min(newest, recent.shape[1]) * width
    most = recent.shape[1] + own.shape[1] + near_end + found.shape[1]
    size = 1
    while size < 2 * most:
        size *= 2
    items, places = np.empty(size, np.int32), np.empty(size, np.int32)  # a table of open addressing

    query, item = np.empty(len(found) * most, np.int32), np.empty(len(found) * most, np.int32)
    co_visit_last, co_visit_recent = np.zeros(len(query), np.float32), np.zeros(len(query), np.float32)
    own_at, session_at = np.full(len(query), -1, np.int32), np.full(len(query), -1, np.int32)
    session_count = np.zeros(len(query), np.int32)

    n = 0
    for q in range(len(found)):
        places[:] = FREE
        # One loop over all sources, with the look-up in it: a function of its own for that takes three times as long.
        session_from, own_from = (own.shape[1], 0) if discover else (0, session_length[q])  # first what bars
        near_from = session_length[q] + own.shape[1]
        found_from = near_from + near_end
        for k in range(found_from + found.shape[1]):
            of, back = -1, 0
            of_session = session_from <= k < session_from + session_length[q]
            of_own = own_from <= k < own_from + own.shape[1]
            if of_session:
                one = recent[q, k - session_from]
            elif of_own:
                one = own[q, k - own_from]
            elif k < found_from:
                back = (k - near_from) // width
                of = recent[q, back]
                one = near[of, (k - near_from) % width] if 0 <= of < len(near) else -1
            else:
                one = found[q, k - found_from]
            if one < 0 or one >= len(servable) or not servable[one]:
                continue

            at = (one * HASH >> 16) & (size - 1)
            while places[at] != FREE and items[at] != one:
                at = (at + 1) & (size - 1)
            if places[at] == FREE:
                items[at] = one
                if (of_session and not session_repeats) or (of_own and discover):
                    places[at] = BARRED
                else:
                    places[at], query[n], item[n] = n, q, one
                    n += 1
            place = places[at]
            if place == BARRED:
                continue

            if of_session:
                session_count[place] += 1
                if session_at[place] < 0:
                    session_at[place] = k - session_from
            elif of_own:
                own_at[place] = k - own_from
            elif k < found_from:
                weight = weights[of, (k - near_from) % width]
                co_visit_recent[place] += np.float32(0.5 ** (back / 2)) * weight
                if back == 0:
                    co_visit_last[place] += weight
    return Candidates(
        query[:n], item[:n], co_visit_last[:n], co_visit_recent[:n], own_at[:n], session_at[:n], session_count[:n]
    )
