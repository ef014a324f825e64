"""Answers of the collector, as its server and `anabranch.client` have them."""

from __future__ import annotations

from msgspec import Struct

from anabranch.http.problems import Problem


class RefusedEvent(Struct, frozen=True, kw_only=True):
    """An event that is not published."""

    index: int
    """Its position in the request, from 0."""
    field: str | None
    """None: it is about the event as a whole."""
    reason: str
    remedy: str


class EventsAnswer(Struct, frozen=True, kw_only=True):
    """What became of the events of a request."""

    taken: int
    """So many are published: the broker has acknowledged them."""
    refused: list[RefusedEvent]


class EventsProblem(Problem, kw_only=True):
    """A problem with events. Where the body can be read, and none of its events is valid, it says why."""

    taken: int = 0
    refused: tuple[RefusedEvent, ...] = ()
