"""What became of items since the counts were last asked: whether their rows changed, and whether by new items."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CHANGED, CHANGED_BY_NEW = np.uint8(1), np.uint8(2)
"""They changed; among the changes was a pair of which one item was first visited within `NEW_MS`."""
NEW_MS = 86_400_000


class ChangedItems(NamedTuple):
    """Items whose neighbours or visits changed, ascending."""

    by_new: NDArray[np.int64]
    """By pairs with new items, or new themselves."""
    otherwise: NDArray[np.int64]

    @property
    def in_turn(self) -> ChangedItems:
        """The same, with nothing that goes before the others."""
        return ChangedItems(np.empty(0, np.int64), np.sort(np.concatenate([self.by_new, self.otherwise])))
