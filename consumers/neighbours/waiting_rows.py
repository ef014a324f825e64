"""Which items are looked at next: those that changed, the longest waiting first, and in turn all others."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from anabranch.co_visit.changed_items import ChangedItems

REST_S = 1.0
"""An item is looked at, and so its row published, at most once in this time."""
CHANGED_ROWS = 500
"""Items that changed, of which one tick looks at no more. Rankers apply each published row between two batches."""
SWEPT_ROWS = 50
"""Other items of a tick. What is left alone gets less popular, and its row must say so in the end."""


class WaitingRows:
    """Items that changed and were not looked at since. Those that new items changed go before the others."""

    def __init__(self) -> None:
        self._by_new: dict[int, float] = {}
        """Item → time of its first change since it was looked at, in the order of these times."""
        self._otherwise: dict[int, float] = {}
        """The same."""
        self._looked_at: dict[int, float] = {}
        """Item → when it was looked at, in the order of these times: less than `REST_S` ago."""
        self._next_swept = 0

    def __len__(self) -> int:
        return len(self._by_new) + len(self._otherwise)

    def add(self, changed: ChangedItems, now_s: float) -> None:
        """These items changed."""
        for item in changed.by_new.tolist():
            self._by_new.setdefault(item, self._otherwise.pop(item, now_s))
        for item in changed.otherwise.tolist():
            if item not in self._by_new:
                self._otherwise.setdefault(item, now_s)

    def put_back(self, items: NDArray[np.integer], now_s: float) -> None:
        """What was done with these items failed."""
        self.add(ChangedItems(items.astype(np.int64), np.empty(0, np.int64)), now_s)

    def age_s(self, now_s: float) -> float:
        """How long the item waits that waits for longest; 0 if none does."""
        return now_s - min(next(iter(since.values()), now_s) for since in (self._by_new, self._otherwise))

    def take(self, known_items: int, now_s: float) -> NDArray[np.int64]:
        """The items of one tick, ascending, of `known_items` in all."""
        for item in [item for item, at_s in self._looked_at.items() if at_s <= now_s - REST_S]:
            del self._looked_at[item]
        changed = list(islice(self._rested(), CHANGED_ROWS))
        for item in changed:
            self._by_new.pop(item, None)
            self._otherwise.pop(item, None)
            self._looked_at[item] = now_s
        swept = range(self._next_swept, min(self._next_swept + SWEPT_ROWS, known_items))
        self._next_swept = 0 if swept.stop >= known_items else swept.stop
        return np.unique(np.array([*changed, *(item for item in swept if item not in self._looked_at)], np.int64))

    def _rested(self) -> Iterator[int]:
        return (item for item in chain(self._by_new, self._otherwise) if item not in self._looked_at)
