"""Users whose activity no person has: programs that read a shop, and test accounts.

What many people share, such as co-visits and popularity, should not be made by them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anabranch.co_visit.unusual_activity import MIN_EVENTS, MIN_ITEMS, activity_limit
from models.data.event_log import DAY_MS, NONE, EventLog


def unusual_users(log: EventLog) -> frozenset[int]:
    """The numbers of users who had a day (UTC) of unusually many events, or of unusually many different items."""
    log = log.take(log.item != NONE)
    if not len(log):
        return frozenset()
    day = log.user.astype(np.int64) << 32 | log.ts // DAY_MS
    visited = np.unique(np.stack([day, log.item.astype(np.int64)]), axis=1)[0]
    return frozenset(_beyond(day, MIN_EVENTS) | _beyond(visited, MIN_ITEMS))


def _beyond(day: NDArray[np.int64], minimum: int) -> set[int]:
    """Users with more entries on a day than is usual; `day` has the user in its upper half, and one value an entry."""
    days, counts = np.unique(day, return_counts=True)
    users, starts = np.unique(days >> 32, return_index=True)
    busiest = np.maximum.reduceat(counts, starts)
    return set(users[busiest > activity_limit(busiest, minimum)].tolist())
