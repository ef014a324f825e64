"""What co-visit counts have learned, as arrays: of items, of users, and of the pairs of items."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anabranch.co_visit.bounded_rows import BoundedRows, empty_rows

NONE = -1
"""The item of a visit that is about none, such as a search, and the session of one without a session id."""


class ItemCounts(NamedTuple):
    """Of C items."""

    visits: NDArray[np.float64]
    """[C] decayed"""
    pairs: NDArray[np.float64]
    """[C] decayed sum over all neighbours ever counted, also those that are forgotten"""
    first_ms: NDArray[np.int64]
    """[C] time of the first visit"""
    users: NDArray[np.int64]
    """[C] users who visited the item; 0: it is unknown"""
    returned: NDArray[np.int64]
    """[C] those of them who came back to it in a later session"""
    change: NDArray[np.uint8]
    """[C] what became of its neighbours and visits since the last `take_changed`: 0, CHANGED or CHANGED_BY_NEW"""


class UserHistories(NamedTuple):
    """Of U users."""

    items: NDArray[np.int32]
    """[U, H] a ring of the newest items"""
    entered: NDArray[np.int64]
    """[U] items that ever entered the ring"""
    session: NDArray[np.int64]
    session_length: NDArray[np.int64]
    """[U] items of the current session, also those that the ring has no more"""
    last_ms: NDArray[np.int64]
    """[U] the newest time of a visit, -1 before the first"""


class CoVisitMemory(NamedTuple):
    """All that was learned."""

    items: ItemCounts
    neighbours: BoundedRows
    """By item, its neighbours: decayed counts of pairs, and 64 bits of which each user sets one (linear counting;
    Whang, Vander-Zanden and Taylor, 1990). Two users may share a bit and one never sets two, so that there are at least
    as many users as bits."""
    users: UserHistories
    visited: BoundedRows
    """By user, the items visited: what the visits count together."""
    has_row: NDArray[np.bool_]
    """[C] whether the item's pairs are counted in `neighbours` and `items.pairs`, and its changes in `items.change`"""


def empty_memory(history: int) -> CoVisitMemory:
    """Of no items and no users, whose rings will have `history` items."""
    return CoVisitMemory(
        items=item_counts(0),
        neighbours=empty_rows(),
        users=user_histories(0, history),
        visited=empty_rows(),
        has_row=np.ones(0, np.bool_),
    )


def item_counts(n: int) -> ItemCounts:
    """Of n items that nobody visited."""
    return ItemCounts(
        visits=np.zeros(n),
        pairs=np.zeros(n),
        first_ms=np.zeros(n, np.int64),
        users=np.zeros(n, np.int64),
        returned=np.zeros(n, np.int64),
        change=np.zeros(n, np.uint8),
    )


def user_histories(n: int, history: int) -> UserHistories:
    """Of n users without any, with rings of `history` items."""
    return UserHistories(
        items=np.full((n, history), NONE, np.int32),
        entered=np.zeros(n, np.int64),
        session=np.full(n, NONE, np.int64),
        session_length=np.zeros(n, np.int64),
        last_ms=np.full(n, -1, np.int64),
    )
