"""What ranking needs of user states, as they were right after each event."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.types import Counts, Hashes, Positions, Rows, Seconds, Vectors
from anabranch.ranking.user_state.layout import StateLayout
from anabranch.ranking.user_state.user_lists import LongTermLists


class UserSnapshots(NamedTuple):
    """The states of n users, each right after one event. Long-term items beyond `long_term_size` are undefined."""

    vector: Vectors
    """[n, d]"""
    now: NDArray[np.int64]
    """[n] UTC ms of the user's newest event that is no impression"""
    recent: Rows
    """[n, H] items of the history, newest first, -1 padded"""
    recent_s: Seconds
    """[n, H] times of these events"""
    session_length: Counts
    """[n] how many of these events, the newest ones, belong to the current session"""
    long_term_size: Counts
    """[n]"""
    long_term: LongTermLists
    """[n, M]"""
    shown_item: Rows
    """[n, R] what the user was shown and has not taken since, -1 where there is none"""
    shown_count: NDArray[np.uint8]
    """[n, R]"""
    shown_s: Seconds
    """[n, R] when last"""
    disliked_item: Rows
    """[n, D] what the user does not want to see again, -1 padded"""
    draw_key: Hashes
    """[n] what is drawn at explored places of the slate after the event; 0 unless places are explored"""

    @classmethod
    def empty(cls, n: int, dims: int, layout: StateLayout) -> UserSnapshots:
        """Snapshots of n users without events."""
        return cls(
            vector=np.zeros((n, dims), np.float32),
            now=np.zeros(n, np.int64),
            recent=np.full((n, layout.history), -1, np.int32),
            recent_s=np.empty((n, layout.history), np.uint32),
            session_length=np.zeros(n, np.int32),
            long_term_size=np.zeros(n, np.int32),
            long_term=LongTermLists.uninitialised(n, layout.long_term_items),
            shown_item=np.full((n, layout.impression_items), -1, np.int32),
            shown_count=np.zeros((n, layout.impression_items), np.uint8),
            shown_s=np.zeros((n, layout.impression_items), np.uint32),
            disliked_item=np.full((n, layout.disliked_items), -1, np.int32),
            draw_key=np.zeros(n, np.uint64),
        )

    @classmethod
    def concatenate(cls, parts: Sequence[UserSnapshots]) -> UserSnapshots:
        """The snapshots of all parts, of which there is at least one."""
        long_term = zip(*(part.long_term for part in parts), strict=True)
        others = {
            name: np.concatenate([getattr(part, name) for part in parts]) for name in cls._fields if name != "long_term"
        }
        return cls(long_term=LongTermLists(*map(np.concatenate, long_term)), **others)

    def select(self, rows: Positions | slice) -> UserSnapshots:
        """Some of the snapshots."""
        long_term: Iterable[NDArray[Any]] = self.long_term
        return UserSnapshots(
            vector=self.vector[rows],
            now=self.now[rows],
            recent=self.recent[rows],
            recent_s=self.recent_s[rows],
            session_length=self.session_length[rows],
            long_term_size=self.long_term_size[rows],
            long_term=LongTermLists(*(column[rows] for column in long_term)),
            shown_item=self.shown_item[rows],
            shown_count=self.shown_count[rows],
            shown_s=self.shown_s[rows],
            disliked_item=self.disliked_item[rows],
            draw_key=self.draw_key[rows],
        )
