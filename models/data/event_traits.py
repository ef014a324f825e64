"""Traits of events, by which metrics and skills are told apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

COLD_INTERACTIONS = 5
"""An item with at most this many earlier events is cold: its vector comes almost only from its text."""


def repeated_pairs(user: NDArray[np.integer], item: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Mask [N] of the events whose user had the item at an earlier row."""
    pair = user.astype(np.int64) * (int(item.max(initial=0)) + 2) + item
    repeated = np.ones(len(pair), np.bool_)
    repeated[np.unique(pair, return_index=True)[1]] = False
    return repeated
