"""A log cut into sessions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.data.event_log import EventLog
from models.data.session_rule import session_ends


@dataclass(frozen=True)
class Sessions:
    """N events in S sessions. Sessions are numbered in the order in which they end."""

    item: NDArray[np.int32]  # [N], session by session, each in time order
    start: NDArray[np.int64]  # [S + 1], row of each session's first event, and N
    user: NDArray[np.int32]  # [S]
    end_ts: NDArray[np.int64]  # [S], UTC milliseconds of the last event

    def __len__(self) -> int:
        return len(self.user)

    @classmethod
    def from_log(cls, log: EventLog) -> Sessions:
        """Cut a log in which every event has an item: see `EventLog.renumbered`."""
        by_user = np.lexsort((np.arange(len(log)), log.user))  # stable: each user's events stay in time order
        sorted_log = log.take(by_user)
        user, ts = sorted_log.user, sorted_log.ts
        first = np.flatnonzero(begins_session(sorted_log))
        length = np.diff(np.r_[first, len(user)])
        end_ts = ts[first + length - 1]
        by_end = np.argsort(end_ts, kind="stable")
        start = np.r_[0, np.cumsum(length[by_end])]
        rows = np.arange(len(user)) + np.repeat(first[by_end] - start[:-1], length[by_end])
        return cls(log.item[by_user[rows]], start, user[first[by_end]], end_ts[by_end])


def begins_session(log: EventLog) -> NDArray[np.bool_]:
    """Mask [N] of the events that are the first of their session; the log is sorted by user, then time."""
    other_user = log.user[1:] != log.user[:-1]
    other_session = session_ends(log.session[:-1], log.session[1:], np.diff(log.ts))
    begins: NDArray[np.bool_] = np.r_[True, other_user | other_session][: len(log)]
    return begins
