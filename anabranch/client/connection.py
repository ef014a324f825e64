"""HTTP requests to one server: connections that are reused, time-outs, retries, and problems as errors.

The transport of httpx2 is used without its `Client`, which logs the address of every request: it has user ids in it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import Self, TypeVar

import httpx2
import msgspec

from anabranch.client.errors import RequestFailed, RequestRefused, ServerUnavailable
from anabranch.client.retries import RetryPolicy
from anabranch.http.messages.collector import EventsProblem
from anabranch.http.problems import Problem

JSON = "application/json"
Answer = TypeVar("Answer")
Pairs = Sequence[tuple[str, str]]
COME_LATER = (
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)
"""Answers after which the same request may succeed; proxies give the second and the last."""
KEEP_ALIVE_S = 20.0
"""Less than the servers keep an idle connection: a request on one that the server closes meanwhile would fail."""
MAX_CONNECTIONS = 100
DETAIL_CHARACTERS = 200
NO_ANSWER = (httpx2.NetworkError, httpx2.TimeoutException, httpx2.RemoteProtocolError, httpx2.ProxyError)
"""After which the same request may succeed."""


class ServerConnection:
    """May be used by several threads. Every request must be safe to send again."""

    def __init__(
        self,
        url: str,
        key: str | None,
        timeout_s: float,
        retries: RetryPolicy,
    ) -> None:
        """`url`: such as https://events.shop.example, with the path at which a proxy has the server, if any.
        `timeout_s`: for a connection, and then for each part of the answer. Raises `ValueError` for an address or a key
        that cannot be right."""
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"the address {url!r} does not begin with http:// or https://")
        if key is not None and not (key.isascii() and key.isprintable()):
            raise ValueError("the API key has a character that no key has, such as a line break: read it again")
        self._url = url.rstrip("/")
        self._headers = {"User-Agent": "anabranch", "Accept": JSON}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"
        self._timeout = httpx2.Timeout(timeout_s).as_dict()
        self._retries = retries
        limits = httpx2.Limits(max_connections=MAX_CONNECTIONS, keepalive_expiry=KEEP_ALIVE_S)
        self._transport = httpx2.HTTPTransport(limits=limits)

    def get(self, path: str, kind: type[Answer], parameters: Pairs = ()) -> Answer:
        """The answer to a GET request. Raises `RequestFailed`."""
        return _decoded(self._answered("GET", path, parameters, None), kind)

    def post(self, path: str, kind: type[Answer], body: object) -> Answer:
        """The answer to a POST request with this body, as JSON. Raises `RequestFailed`."""
        return _decoded(self._answered("POST", path, (), msgspec.json.encode(body)), kind)

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def _answered(self, method: str, path: str, parameters: Pairs, body: bytes | None) -> httpx2.Response:
        """The answer with success, after as many attempts as it takes."""
        started_at_s, failures = time.monotonic(), 0
        while True:
            outcome = self._attempt(method, path, parameters, body)
            if isinstance(outcome, httpx2.Response) and outcome.is_success:
                return outcome
            if isinstance(outcome, httpx2.Response) and outcome.status_code not in COME_LATER:
                raise _refused(method, outcome)
            failures += 1
            wait_s = self._retries.wait_s(failures, time.monotonic() - started_at_s, _retry_after_s(outcome))
            if wait_s is None:
                raise _unavailable(method, outcome, failures)
            self._retries.sleep(wait_s)

    def _attempt(
        self, method: str, path: str, parameters: Pairs, body: bytes | None
    ) -> httpx2.Response | httpx2.TransportError:
        """The answer, whatever its status, or why there is none."""
        request = httpx2.Request(
            method,
            self._url + path,
            params=list(parameters) or None,
            content=body,
            headers=self._headers | ({} if body is None else {"Content-Type": JSON}),
            extensions={"timeout": self._timeout},
        )
        try:
            response = self._transport.handle_request(request)
            try:
                response.read()
            finally:
                response.close()
        except NO_ANSWER as error:
            return error
        return response


class ServerClient:
    """A client of a server, whose connections end with a `with` statement, or by `close`."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _decoded(response: httpx2.Response, kind: type[Answer]) -> Answer:
    try:
        return msgspec.json.decode(response.content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestFailed(
            f"the answer is not one of Anabranch ({error}): look whether the address is that of the right server"
        ) from error


def _retry_after_s(outcome: httpx2.Response | httpx2.TransportError) -> float:
    """Seconds of the header `Retry-After`; 0 without it. Our servers never give a date, which RFC 9110 allows too."""
    value = outcome.headers.get("Retry-After", "") if isinstance(outcome, httpx2.Response) else ""
    return float(value) if value.isdecimal() else 0.0


def problem_of(response: httpx2.Response, kind: type[Problem] = Problem) -> Problem | None:
    """What the server says of a request that it did not serve; None if it is no problem of RFC 9457."""
    try:
        return msgspec.json.decode(response.content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _said(method: str, response: httpx2.Response, problem: Problem | None) -> str:
    detail = response.text[:DETAIL_CHARACTERS] if problem is None else problem.detail
    return f"{method}: {response.status_code} {response.reason_phrase}: {detail}"


def _refused(method: str, response: httpx2.Response) -> RequestRefused:
    problem = problem_of(response, EventsProblem)
    return RequestRefused(_said(method, response, problem), problem)


def _unavailable(method: str, outcome: httpx2.Response | httpx2.TransportError, attempts: int) -> ServerUnavailable:
    if isinstance(outcome, httpx2.Response):
        problem = problem_of(outcome)
        said = _said(method, outcome, problem)
    else:
        problem, said = None, f"{method}: {type(outcome).__name__}: {outcome}"
    return ServerUnavailable(f"{said} (attempts: {attempts})", problem)
