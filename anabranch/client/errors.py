"""What a client raises.

RequestFailed                 there is no answer that the client could return
├── RequestRefused            the server says that this request is wrong; it would refuse it again
└── ServerUnavailable         no answer, or a request to come later, as often as the client tried
"""

from __future__ import annotations

from anabranch.errors import AnabranchError
from anabranch.http.problems import Problem


class RequestFailed(AnabranchError):
    """There is no answer that the client could return. `problem` is what the server said, if it said anything."""

    def __init__(self, message: str, problem: Problem | None = None) -> None:
        super().__init__(message)
        self.problem = problem


class RequestRefused(RequestFailed):
    """The server says that this request is wrong, so that it would refuse it again."""


class ServerUnavailable(RequestFailed):
    """The server did not answer, or asked to come later, as often as the client tried. The same request may succeed
    later."""
