"""The types of events, and what each says of the user."""

from __future__ import annotations

from typing import Final, Literal, get_args

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
EVENT_TYPES: Final[tuple[EventType, ...]] = get_args(EventType)
"""A type's number, which user states and event stores have, is its index here: new types come last in `EventType`."""

NO_INTEREST: Final = frozenset[EventType]({"refund", "impression", "dislike", "remove_from_cart"})
"""Types of events that show no interest in their item."""

READ_BY_ENCODERS: Final = 4
"""`step.onnx` has a vector for each of the first types. It is trained on events of the later ones, if they show
interest, as views, and serves them so: a release that is older than a type serves it too."""
