"""Which events repeat an item that their user had before."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def repeated_pairs(user: NDArray[np.integer], item: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Mask [N] of the events whose user had the item at an earlier row."""
    pair = user.astype(np.int64) * (int(item.max(initial=0)) + 2) + item
    repeated = np.ones(len(pair), np.bool_)
    repeated[np.unique(pair, return_index=True)[1]] = False
    return repeated
