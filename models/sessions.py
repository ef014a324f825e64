"""A log cut into sessions, for models that compare a moment with sessions of the past."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.state import SESSION_GAP_MS
from models.log import NONE, EventLog


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
    def of(cls, log: EventLog) -> Sessions:
        """Cut by the rule of `models.history.UserHistory`: where another session is named, or, where none is, after
        half an hour's pause. Every event of the log is about an item here: see `EventLog.renumbered`."""
        by_user = np.lexsort((np.arange(len(log)), log.user))  # a log is in order of time already
        user, ts, session = log.user[by_user], log.ts[by_user], log.session[by_user]
        pauses = (session[1:] == NONE) & (np.diff(ts) > SESSION_GAP_MS)
        fresh = np.r_[True, (user[1:] != user[:-1]) | (session[1:] != session[:-1]) | pauses][: len(user)]
        first = np.flatnonzero(fresh)
        length = np.diff(np.r_[first, len(user)])
        end_ts = ts[first + length - 1]
        by_end = np.argsort(end_ts, kind="stable")
        start = np.r_[0, np.cumsum(length[by_end])]
        rows = np.arange(len(user)) + np.repeat(first[by_end] - start[:-1], length[by_end])
        return cls(log.item[by_user[rows]], start, user[first[by_end]], end_ts[by_end])
