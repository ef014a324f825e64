"""Which items are looked at next: those that changed, the longest waiting first, and in turn all others."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import numpy as np
from numpy.typing import NDArray

CHANGED_ROWS = 2_000
"""Items that changed, of which one tick looks at no more. Rankers apply each published row between two batches."""
SWEPT_ROWS = 200
"""Other items of a tick. What is left alone gets less popular, and its row must say so in the end."""


class WaitingRows:
    """Items that changed and were not looked at since."""

    def __init__(self) -> None:
        self._since_s: dict[int, float] = {}
        """Item → time of its first change since it was looked at, in the order of these times."""
        self._next_swept = 0

    def __len__(self) -> int:
        return len(self._since_s)

    def add(self, items: Iterable[int], now_s: float) -> None:
        """These items changed."""
        for item in items:
            self._since_s.setdefault(item, now_s)

    def age_s(self, now_s: float) -> float:
        """How long the item waits that waits for longest; 0 if none does."""
        return now_s - next(iter(self._since_s.values()), now_s)

    def take(self, known_items: int) -> NDArray[np.int64]:
        """The items of one tick, ascending, of `known_items` in all."""
        changed = list(islice(self._since_s, CHANGED_ROWS))
        for item in changed:
            del self._since_s[item]
        swept = range(self._next_swept, min(self._next_swept + SWEPT_ROWS, known_items))
        self._next_swept = 0 if swept.stop >= known_items else swept.stop
        return np.unique(np.array([*changed, *swept], np.int64))
