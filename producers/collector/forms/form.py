"""What a form of events over HTTP is: how it reads a body, and how it answers. `RequestHandler` does the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from anabranch.http.access import AccessControl
from anabranch.http.messages.collector import RefusedEvent
from anabranch.messages import Event
from producers.identity_record import IdentifiedVisitor

Authorization = str | None | Callable[[bytes], str | None]
"""The name of the API key that a client presents; None if no key is needed. Or, where the key is in the body: what
returns that of a body, or raises `HttpProblem`."""


class Reception(Struct, frozen=True):
    """How a body arrived."""

    media_type: str
    """One of the form's."""
    received_ms: int
    """UTC, milliseconds since 1970."""


class IgnoredEvent(Struct, frozen=True, kw_only=True):
    """What is valid in its form, and nothing that Anabranch has a use for."""

    index: int
    """Its position in the request, from 0."""
    reason: str


@dataclass(frozen=True)
class RequestContent:
    """What a request holds."""

    events: list[Event] = field(default_factory=list)
    """The valid events, in the order in which they are published."""
    identities: list[IdentifiedVisitor] = field(default_factory=list)
    refused: list[RefusedEvent] = field(default_factory=list)
    ignored: list[IgnoredEvent] = field(default_factory=list)

    @property
    def is_published(self) -> bool:
        """Whether there is anything to publish."""
        return bool(self.events or self.identities)

    @property
    def count(self) -> int:
        """What a limit of events counts."""
        return len(self.events) + len(self.identities) + len(self.refused) + len(self.ignored)


class Form(Protocol):
    """One of the forms in which events are taken."""

    media_types: Sequence[str]
    """Of its bodies; the first is that of a body whose request names none."""
    max_body_bytes: int
    publishes: bool
    """False: a request is only checked."""

    def authorize(self, request: Request, access: AccessControl) -> Authorization:
        """Who sends the request, before its body is read. Raises `HttpProblem`."""

    def read(self, body: bytes, reception: Reception) -> RequestContent:
        """What the body holds. Pure. Raises `HttpProblem` if the request as a whole cannot be taken."""

    def answer(self, content: RequestContent) -> Response:
        """The answer once all of the content is published. Raises `HttpProblem` if nothing of it can be."""


def authorize_by_header(request: Request, access: AccessControl) -> str | None:
    """By the API key in the header `Authorization`."""
    return access.require(request.headers.get("authorization"), "events:write")
