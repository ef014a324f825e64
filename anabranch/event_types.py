"""The types of events, and what each says of the user."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

EventType = Literal[
    "view",
    "cart",
    "purchase",
    "search",
    "refund",
    "impression",
    "click",
    "like",
    "rating",
    "dislike",
    "remove_from_cart",
]
EVENT_TYPES: Final[tuple[EventType, ...]] = (
    "view",
    "cart",
    "purchase",
    "search",
    "refund",
    "impression",
    "click",
    "like",
    "rating",
    "dislike",
    "remove_from_cart",
)
"""A type's number, which user states and event stores have, is its index here: new types come last."""

NO_INTEREST: Final = frozenset[EventType]({"refund", "impression", "dislike", "remove_from_cart"})
"""Types of events that show no interest in their item."""

READ_BY_ENCODERS: Final = 4
"""`step.onnx` has a vector for each of the first types, and reads later ones that show interest as views: it serves
them without having learned from any, and so does a release that is older than the type."""


def encoder_types(types: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The types as which encoders read events of these types [...]."""
    return np.where(types < READ_BY_ENCODERS, types, np.uint8(0))
