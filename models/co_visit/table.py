"""The co-visit table: each item's strongest neighbours, as the `neighbours` topic carries them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class CoVisitTable:
    """Rows of n items."""

    item: NDArray[np.int32]  # [n]
    neighbours: NDArray[np.int32]  # [n, width], strongest first, padded with -1
    share: NDArray[np.float32]  # [n, width], share of the item's co-visits, 0 to 1
    popularity: NDArray[np.float32]  # [n], the item's share of all decayed visits
    first_seen: NDArray[np.int64]  # [n], UTC milliseconds
    repeat_rate: NDArray[np.float32]  # [n], share of the item's users who returned to it in a later session
