"""Classes of items, by what the user had to do with them: a placement shows some classes and not others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.jit import compiled, compiled_inline
from anabranch.ranking.types import Counts, Floats

NEW, SEEN, IN_SESSION = range(3)
"""The user has had no event about it; has had one, before the current session; has had one in the current session."""

Classes = NDArray[np.bool_]
"""[3] whether the items of each class are meant."""


@compiled_inline
def item_class(event_count: float, session_count: int) -> int:
    """The class of an item, by the user's number of events about it, and of those in the current session."""
    if session_count > 0:
        return IN_SESSION
    return SEEN if event_count > 0 else NEW


@compiled
def item_classes(event_count: Floats, session_count: Counts) -> Counts:
    """The classes of N items; see `item_class`."""
    classes = np.empty(len(event_count), np.int32)
    for n in range(len(event_count)):
        classes[n] = item_class(event_count[n], session_count[n])
    return classes
