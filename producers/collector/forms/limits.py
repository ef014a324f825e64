"""How large a request and its events may be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from http import HTTPStatus

from anabranch.errors import UsageError
from anabranch.http.problems import HttpProblem
from anabranch.settings import Settings

FRAME_BYTES = 4_096
"""At most what key and framing add to an event on its topic: a user id has up to 512 characters of up to 4 bytes."""


@dataclass(frozen=True)
class CollectorLimits:
    """Of one request."""

    body_bytes: int
    event_bytes: int
    events: int

    @classmethod
    def from_settings(cls, settings: Settings) -> CollectorLimits:
        """Raises `UsageError` if what these settings let in would fail behind the door."""
        if settings.collect_event_bytes + FRAME_BYTES > settings.max_message_bytes:
            raise UsageError(
                f"collect_event_bytes {settings.collect_event_bytes} with {FRAME_BYTES} bytes of key and framing is "
                f"more than max_message_bytes {settings.max_message_bytes}: lower the one or raise the other"
            )
        if settings.collect_body_bytes > settings.collect_bytes_in_flight:
            raise UsageError(
                f"collect_body_bytes {settings.collect_body_bytes} is more than collect_bytes_in_flight "
                f"{settings.collect_bytes_in_flight}: lower the one or raise the other"
            )
        return cls(settings.collect_body_bytes, settings.collect_event_bytes, settings.collect_max_events)

    def at_most(self, event_bytes: int) -> CollectorLimits:
        """The same with events of so many bytes at most."""
        return replace(self, event_bytes=min(self.event_bytes, event_bytes))


def too_many_events(limit: int) -> HttpProblem:
    """413, for a body of more events than `limit`."""
    return HttpProblem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body has more than {limit} events: send them in several requests"
    )
