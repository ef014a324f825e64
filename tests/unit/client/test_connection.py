"""Requests of the clients to a server that fails, on a real port."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import pytest

from anabranch.client.collector import CollectorClient
from anabranch.client.errors import RequestFailed, RequestRefused, ServerUnavailable
from anabranch.client.retries import RetryPolicy
from anabranch.http.problems import HttpProblem, unavailable
from anabranch.messages import Event

EVENT = Event(event_id="e1", user_id="zebra", type="view", ts=1, item_id="i")
TAKEN = (200, {}, b'{"taken": 1, "refused": []}')
KEY = "okapi"
Reply = tuple[int, dict[str, str], bytes]
LOST: Reply = (0, {}, b"")
"""The connection is closed without an answer."""


def problem(error: HttpProblem) -> Reply:
    return error.status, dict(error.headers), error.body()


BUSY = problem(unavailable("the broker is away", 2))


class FailingServer:
    """Answers the n-th request with the n-th reply, and notes what arrives."""

    def __init__(self, replies: list[Reply]) -> None:
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.connections: set[Any] = set()
        outer, left = self, iter(replies)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                outer.headers.append(dict(self.headers))
                outer.connections.add(self.client_address)
                status, headers, body = next(left)
                if not status:
                    self.close_connection = True
                    return
                self.send_response(status)
                for name, value in (headers | {"Content-Length": str(len(body))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@contextmanager
def failing(*replies: Reply) -> Iterator[FailingServer]:
    failing = FailingServer(list(replies))
    thread = threading.Thread(target=failing.server.serve_forever)
    thread.start()
    try:
        yield failing
    finally:
        failing.server.shutdown()
        thread.join()
        failing.server.server_close()


@pytest.fixture
def slept() -> list[float]:
    """How long the clients of a test would wait."""
    return []


def client(url: str, slept: list[float], **policy: Any) -> CollectorClient:
    policy = {"uniform": lambda low, high: high, "sleep": slept.append} | policy
    return CollectorClient(url, KEY, retries=RetryPolicy(**policy))


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_request_that_may_succeed_later_is_sent_again_with_the_same_event_ids(
    status: int, slept: list[float]
) -> None:
    with failing((status, {}, b""), LOST, TAKEN) as server, client(server.url, slept, first_wait_s=0.5) as collector:
        assert collector.send([EVENT]).taken == 1
    assert len(server.bodies) == 3 and len(set(server.bodies)) == 1
    assert msgspec.json.decode(server.bodies[0])[0]["event_id"] == "e1"
    assert slept == [0.5, 1.0]


def test_the_server_says_how_long_to_wait(slept: list[float]) -> None:
    with failing(BUSY, TAKEN) as server, client(server.url, slept, first_wait_s=0.5) as collector:
        collector.send([EVENT])
    assert slept == [2.5]


def test_what_the_server_said_is_in_the_error_after_the_last_attempt(slept: list[float]) -> None:
    with failing(BUSY, BUSY) as server, client(server.url, slept, attempts=2) as collector:
        with pytest.raises(
            ServerUnavailable, match=r"503 Service Unavailable: the broker is away \(attempts: 2\)"
        ) as e:
            collector.send([EVENT])
        assert e.value.problem is not None and e.value.problem.status == 503
    assert len(server.bodies) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 413, 500, 301])
def test_a_request_that_is_wrong_is_sent_once(status: int, slept: list[float]) -> None:
    with failing(problem(HttpProblem(status, "send less"))) as server, client(server.url, slept) as collector:
        with pytest.raises(RequestRefused, match="send less") as e:
            collector.send([EVENT])
        assert e.value.problem is not None and e.value.problem.status == status
    assert (len(server.bodies), slept) == (1, [])


def test_without_a_server_the_client_gives_up_after_its_attempts(slept: list[float]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        collector = client(f"http://127.0.0.1:{unused.getsockname()[1]}", slept, attempts=3)
        with collector, pytest.raises(ServerUnavailable, match=r"ConnectError.*attempts: 3"):
            collector.send([EVENT])
    assert len(slept) == 2


def test_a_server_that_does_not_answer_is_a_time_out(slept: list[float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        collector = CollectorClient(url, timeout_s=0.05, retries=RetryPolicy(attempts=2, sleep=slept.append))
        with collector, pytest.raises(ServerUnavailable, match="ReadTimeout"):
            collector.send([EVENT])


def test_an_answer_of_another_server_is_an_error_that_says_so(slept: list[float]) -> None:
    with failing((200, {"Content-Type": "text/html"}, b"<html>")) as server:
        collector = client(server.url, slept)
        with collector, pytest.raises(RequestFailed, match="right server"):
            collector.send([EVENT])


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://shop", ""])
def test_an_address_that_is_none_is_an_error_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="http://"):
        CollectorClient(url)


@pytest.mark.parametrize("key", ["okapi\n", "okäpi"])
def test_a_key_that_is_none_is_an_error_that_does_not_show_it(key: str) -> None:
    with pytest.raises(ValueError, match="character that no key has") as e:
        CollectorClient("http://127.0.0.1", key)
    assert key not in str(e.value)


def test_requests_share_a_connection(slept: list[float]) -> None:
    with failing(*[TAKEN] * 5) as server, client(server.url, slept) as collector:
        for _ in range(5):
            collector.send([EVENT])
    assert len(server.connections) == 1


def test_a_path_before_that_of_the_api_is_kept(slept: list[float]) -> None:
    with failing(TAKEN) as server, client(f"{server.url}/shop/", slept) as collector:
        assert collector.send([EVENT]).taken == 1


def test_neither_keys_nor_users_are_logged_or_in_errors(caplog: pytest.LogCaptureFixture, slept: list[float]) -> None:
    caplog.set_level(logging.DEBUG)
    with failing(BUSY, LOST, TAKEN, problem(HttpProblem(400, "no"))) as server, client(server.url, slept) as collector:
        collector.send([EVENT])
        with pytest.raises(RequestRefused) as e:
            collector.send([EVENT])
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert not [word for word in (KEY, "zebra") if word in caplog.text + str(e.value)]
