"""A shop's own names for what users do, and which of our event types each of them is.

Names are mapped where events enter: on `events` there are only our types, so that every process reads an event in the
same way, now and when it is replayed, whatever its settings say by then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

from msgspec import Meta

from anabranch.event_types import EVENT_TYPES, EventType

EventTypeName = Annotated[str, Meta(min_length=1, max_length=128)]


class OwnEventTypes:
    """Which of our types a name is, whatever its case and the space around it."""

    def __init__(self, types: Mapping[str, EventType] = {}) -> None:
        self._types = {_folded(name): event_type for name, event_type in types.items()}

    def get(self, name: str) -> EventType | None:
        """None: the shop has no such name."""
        return self._types.get(_folded(name))

    def __bool__(self) -> bool:
        return bool(self._types)


NO_OWN_TYPES = OwnEventTypes()


def contradictions(types: Mapping[str, EventType]) -> Iterator[str]:
    """What is wrong with the setting `event_types`, each with its remedy."""
    names: dict[str, str] = {}
    for name, event_type in types.items():
        folded = _folded(name)
        if folded in EVENT_TYPES:
            yield f"event_types: {name!r} is an event type of Anabranch already; give yours another name"
        if folded in names:
            yield f"event_types: {names[folded]!r} and {name!r} differ in case alone; leave one of them out"
        if event_type == "rating":
            yield f"event_types: {name!r} cannot be a rating, which has a value from -1 to 1; choose like or dislike"
        names[folded] = name


def _folded(name: str) -> str:
    return name.strip().casefold()
