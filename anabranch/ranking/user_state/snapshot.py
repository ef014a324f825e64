"""Queries: what ranking needs of user states, as they stood right after each event."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.types import Counts, Positions, Rows, Seconds, Vectors


class UserSnapshots(NamedTuple):
    """Of n user states. Entries of `own_…` beyond `own_size` mean nothing."""

    vector: Vectors
    """[n, d]"""
    now: NDArray[np.int64]
    """[n] ms, the user's newest event"""
    recent: Rows
    """[n, H] items of the history, newest first, -1 padded"""
    recent_s: Seconds
    """[n, H] when"""
    session_length: Counts
    """[n] how many of those are the session's"""
    own_size: Counts
    """[n] items of before the history"""
    own_item: Rows
    """[n, M]"""
    own_log: NDArray[np.float32]
    """[n, M] see `pages.OwnItems`"""
    own_count: NDArray[np.float32]
    own_first_s: Seconds
    own_last_s: Seconds

    @classmethod
    def blank(cls, n: int, dims: int, history: int, own_items: int) -> UserSnapshots:
        """Room for n."""
        return cls(
            vector=np.zeros((n, dims), np.float32),
            now=np.zeros(n, np.int64),
            recent=np.full((n, history), -1, np.int32),
            recent_s=np.empty((n, history), np.uint32),
            session_length=np.zeros(n, np.int32),
            own_size=np.zeros(n, np.int32),
            own_item=np.empty((n, own_items), np.int32),
            own_log=np.empty((n, own_items), np.float32),
            own_count=np.empty((n, own_items), np.float32),
            own_first_s=np.empty((n, own_items), np.uint32),
            own_last_s=np.empty((n, own_items), np.uint32),
        )

    def part(self, start: int, end: int) -> UserSnapshots:
        """Those from `start` to before `end`."""
        return self._each(lambda column: column[start:end])

    def at(self, positions: Positions) -> UserSnapshots:
        """Those at the positions."""
        return self._each(lambda column: column[positions])

    def _each(self, of: Callable[[NDArray[Any]], NDArray[Any]]) -> UserSnapshots:
        columns: Iterable[NDArray[Any]] = self
        return UserSnapshots(*map(of, columns))
