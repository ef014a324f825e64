"""Events in the project's own form, also those whose type is a name of the shop's own. Pure."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, structs

from anabranch import messages
from anabranch.codec import Codec
from anabranch.messages import Event, InvalidMessage
from anabranch.own_event_types import OwnEventTypes


class _NamedEvent(Event, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An event with any name as its type. What its type asks of it is not checked yet."""

    type: Annotated[str, Meta(max_length=128)]  # type: ignore[assignment]

    def __post_init__(self) -> None:
        pass


class EventDecoder:
    """Decodes an event, with our type in place of the shop's name for it."""

    def __init__(self, own_types: OwnEventTypes) -> None:
        self._own_types = own_types
        self._named = Codec(_NamedEvent, foreign=True)

    def decode(self, payload: bytes) -> Event:
        """The event. Raises `InvalidMessage`, which names the field or the problem."""
        try:
            return messages.events.decode(payload)
        except InvalidMessage:
            if not self._own_types:
                raise
            named = self._named.decode(payload)
            event_type = self._own_types.get(named.type)
            if event_type is None:
                raise
        try:
            return Event(**(structs.asdict(named) | {"type": event_type}))
        except ValueError as error:
            raise InvalidMessage(str(error), payload) from error
