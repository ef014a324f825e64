"""What a form of events over HTTP is: how it reads a body, and how it answers. `RequestHandler` does the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from anabranch.http.api_keys import presented_key
from anabranch.messages import Event
from producers.collector.refusal import RefusedEvent


class Reception(Struct, frozen=True):
    """How a body arrived."""

    media_type: str
    """One of the form's."""
    at_ms: int
    """UTC, milliseconds since 1970."""


@dataclass(frozen=True)
class RequestContent:
    """What a request holds."""

    events: list[Event] = field(default_factory=list)
    """The valid events, in the order in which they are published."""
    refused: list[RefusedEvent] = field(default_factory=list)

    @property
    def count(self) -> int:
        """What a limit of events counts."""
        return len(self.events) + len(self.refused)


class Form(Protocol):
    """One of the forms in which events are taken."""

    media_types: Sequence[str]
    """Of its bodies; the first is that of a body whose request names none."""
    max_body_bytes: int

    def api_key(self, request: Request) -> str | None:
        """The API key that a client presents."""

    def read(self, body: bytes, reception: Reception) -> RequestContent:
        """What the body holds. Pure. Raises `HttpProblem` if the request as a whole cannot be taken."""

    def answer(self, content: RequestContent) -> Response:
        """The answer once all of the content is published. Raises `HttpProblem` if nothing of it can be."""


def key_of_header(request: Request) -> str | None:
    """The API key in the header `Authorization`."""
    return presented_key(request.headers.get("authorization"))
