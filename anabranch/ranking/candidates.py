"""Candidates: what retrieval proposes, from the index, the neighbours and the user's own items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.index import ItemIndex
from anabranch.ranking.index_base import Vectors
from anabranch.ranking.item_ids import Rows
from anabranch.ranking.neighbours import NeighbourTable
from anabranch.ranking.state import Slots, UserStates
from anabranch.settings import Settings

Floats = NDArray[np.float32]
Positions = NDArray[np.int64]


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
            purchase=settings.publish_purchase,
        )


@dataclass(frozen=True)
class Queries:
    """What ranking needs of B user states, as they stood right after each event."""

    vector: Vectors  # [B, d]
    now: NDArray[np.int64]  # [B] ms, the user's newest event
    recent: Rows  # [B, H] newest first, -1 padded
    in_session: NDArray[np.bool_]  # [B, H]
    session_length: NDArray[np.int32]  # [B]
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
        recent, in_session = states.recent(slots, states.layout.history)
        return cls(
            vector=columns.vector[slots],
            now=columns.last_ts[slots],
            recent=recent,
            in_session=in_session,
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


@dataclass(frozen=True)
class Candidates:
    """N candidates of B queries, flat, sorted by query; an item stands once per query."""

    query: Positions  # [N]
    item: Rows  # [N]
    co_visit_last: Floats  # [N] weight as a neighbour of the newest item
    co_visit_recent: Floats  # [N] sum over the recent items, halved every two places back
    own_at: Positions  # [N] place among the user's own items, -1 where it is none of them
    session_at: Positions  # [N] how many events ago it was in the session, 0 the newest; -1 where it was not
    session_count: Positions  # [N] how often


def propose(queries: Queries, index: ItemIndex, neighbours: NeighbourTable, policy: Policy) -> Candidates:
    """The union of index, neighbours, own and session's items, less what may not be shown."""
    found = index.search(queries.vector, policy.retrieve)[0]  # [B, retrieve]
    near, weights = neighbours.of(queries.recent[:, : policy.recent])  # [B, L, W] both
    width = near.shape[1] * near.shape[2]
    near, weights = near.reshape(len(queries), width), weights.reshape(len(queries), width)
    back = np.arange(width) // max(1, neighbours.width)  # how many places back in the history, [L * W]
    longest = int(queries.session_length.max(initial=0))
    session = np.where(queries.in_session, queries.recent, -1)[:, :longest]  # [B, longest], newest first

    parts = [_keys(items) for items in (found, near, queries.own_item, session)]
    keys, place = np.unique(np.concatenate(parts), return_inverse=True)
    _, of_near, of_own, of_session = np.split(place, np.cumsum([len(part) for part in parts])[:-1])
    n = len(keys)
    discount = np.float32(0.5) ** (back / 2)
    recent = np.bincount(of_near, (weights * discount).ravel(), n)
    last = np.bincount(of_near, (weights * (back == 0)).ravel(), n)
    own_at = _first_place(of_own, queries.own_item.shape[1], n)
    session_at = _first_place(of_session, longest, n)

    query, item = keys >> 32, (keys & 0xFFFFFFFF).astype(np.int32)
    keep = (item >= 0) & index.servable(item)
    if not policy.session_repeats:
        keep &= session_at < 0
    if policy.discover:
        keep &= own_at < 0
    return Candidates(
        query=query[keep],
        item=item[keep],
        co_visit_last=last[keep].astype(np.float32),
        co_visit_recent=recent[keep].astype(np.float32),
        own_at=own_at[keep],
        session_at=session_at[keep],
        session_count=np.bincount(of_session, minlength=n)[keep],
    )


def _first_place(of_keys: Positions, width: int, n: int) -> Positions:
    """For each of n keys, the lowest column of a table [B, width] that it stands in, -1 for none.

    `of_keys` [B * width] is the key of every cell.
    """
    first = np.full(n, width, np.int64)
    np.minimum.at(first, of_keys, np.arange(len(of_keys)) % max(width, 1))
    return np.where(first < width, first, -1)


def _keys(items: Rows) -> NDArray[np.int64]:
    """(query, item) of items [B, n] as one sortable number each, flat; an item of -1 becomes 0xFFFFFFFF."""
    queries = np.arange(len(items), dtype=np.int64)[:, None] << 32
    return (queries | (items.astype(np.int64) & 0xFFFFFFFF)).ravel()
