"""A log cut into sessions, for models that compare a moment with sessions of the past."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.user_state.update import SESSION_GAP_MS
from models.data.event_log import NONE, EventLog


@dataclass(frozen=True)
class Sessions:
    """N events in S sessions, which are numbered in the order in which they end."""

    item: NDArray[np.int32]  # [N] session by session, in order of time
    start: NDArray[np.int64]  # [S + 1] bounds the sessions
    user: NDArray[np.int32]  # [S]
    end_ts: NDArray[np.int64]  # [S] ms, of the last event

    def __len__(self) -> int:
        return len(self.user)

    @classmethod
    def from_log(cls, log: EventLog) -> Sessions:
        """Cut a log; every event of it is about an item here: see `EventLog.renumbered`."""
        by_user = np.lexsort((np.arange(len(log)), log.user))  # a log is in order of time already
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
    """Which events [N] of a log that is sorted by user, then time, are the first of their session.

    The rule of `UserStates.observe` and `models.data.history.UserHistory`: a session ends when
    another is named, or, where none is, after half an hour's pause.
    """
    pauses = (log.session[1:] == NONE) & (np.diff(log.ts) > SESSION_GAP_MS)
    differs = (log.user[1:] != log.user[:-1]) | (log.session[1:] != log.session[:-1])
    begins: NDArray[np.bool_] = np.r_[True, differs | pauses][: len(log)]
    return begins
