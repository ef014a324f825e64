"""From which activity on a user is none that a person could be."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

QUANTILE, FACTOR = 0.95, 10
"""A user is unusual beyond this multiple of this quantile of all users' busiest days."""
MIN_EVENTS, MIN_ITEMS = 500, 250
"""A day of no more events, and of no more different items, is never unusual, however small the data is."""


def activity_limit(busiest: NDArray[np.integer], minimum: int) -> float:
    """The most that a day of a usual user has, where the users' busiest days have `busiest` [n > 0]."""
    return max(minimum, FACTOR * float(np.quantile(busiest, QUANTILE)))
