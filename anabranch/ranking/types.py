"""Array types shared by all packages of `anabranch.ranking`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
"""Scores, weights or features, in any shape."""
Vectors = NDArray[np.float32]
"""Vectors [..., d]."""
Mask = NDArray[np.bool_]
Rows = NDArray[np.int32]
"""Item rows in an `ItemVocabulary`, or from `FIRST_UNNAMED` on the numbers of items without a row; -1: no item."""
Hashes = NDArray[np.uint64]
"""Stable hashes of item ids; 0: no item."""
Slots = NDArray[np.int64]
"""User slots in `UserStates`."""
Positions = NDArray[np.int64]
"""Indices into an array."""
Counts = NDArray[np.int32]
Seconds = NDArray[np.uint32]
"""Seconds since 1970."""

YieldCpu = Callable[[], None]
"""Called between two steps of long work, so that a background thread can pause."""
