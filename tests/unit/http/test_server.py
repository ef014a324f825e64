"""The server, on a real socket."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from anabranch.errors import UsageError
from anabranch.http.bounded_protocol import MAX_HEAD_BYTES
from anabranch.http.server import bind, serve

PATIENCE_S = 20.0


class Served:
    """An application whose answers a test holds back."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.ticks = 0
        self.entered = threading.Event()
        self.may_answer = threading.Event()
        self.left = threading.Event()
        listener = bind("127.0.0.1", 0, "--port")
        self.port = listener.getsockname()[1]
        app = Starlette(
            routes=[
                Route("/", self._answer),
                Route("/refuse", self._refuse, methods=["POST"]),
                Route("/stream", self._stream),
            ]
        )
        self.thread = threading.Thread(target=serve, args=(app, listener, self.stop, self._tick, 10))
        self.thread.start()

    def get(self) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        connection.request("GET", "/")
        answer = connection.getresponse()
        return answer.status, answer.read()

    def post(self, connection: http.client.HTTPConnection, body: bytes) -> int:
        connection.request("POST", "/refuse", body)
        answer = connection.getresponse()
        answer.read()
        return answer.status

    def close(self) -> None:
        self.may_answer.set()
        self.stop.set()
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()

    def _tick(self) -> None:
        self.ticks += 1

    async def _answer(self, request: Request) -> Response:
        self.entered.set()
        while not self.may_answer.is_set():
            await asyncio.sleep(0.01)
        return PlainTextResponse("done")

    async def _stream(self, request: Request) -> Response:
        async def endless() -> AsyncIterator[bytes]:
            self.entered.set()
            try:
                while True:
                    yield b"x"
                    await asyncio.sleep(0.01)
            finally:
                self.left.set()

        return StreamingResponse(endless())

    async def _refuse(self, request: Request) -> Response:
        """Without reading the body."""
        return PlainTextResponse("too large", 413)


@pytest.fixture
def served() -> Iterator[Served]:
    created = Served()
    yield created
    created.close()


def test_at_the_end_what_is_in_flight_is_answered_and_nothing_else_is_taken(served: Served) -> None:
    answers: list[tuple[int, bytes]] = []
    request = threading.Thread(target=lambda: answers.append(served.get()))
    request.start()
    assert served.entered.wait(PATIENCE_S)
    served.stop.set()
    _await_refusal(served.port)
    request.join(1.0)
    assert request.is_alive() and served.thread.is_alive(), "it has ten seconds to answer"
    served.may_answer.set()
    request.join(PATIENCE_S)
    served.thread.join(PATIENCE_S)
    assert answers == [(200, b"done")]
    assert not served.thread.is_alive()


def test_a_listener_says_that_it_is_tcp_so_that_asyncio_sends_answers_at_once() -> None:
    """asyncio leaves Nagle's algorithm on where the protocol is 0, and the answers of a busy connection take 40 ms."""
    with bind("127.0.0.1", 0, "--port") as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_an_idle_connection_does_not_delay_the_end(served: Served) -> None:
    served.may_answer.set()
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=PATIENCE_S)
    connection.request("GET", "/")
    connection.getresponse().read()
    started_at_s = time.monotonic()
    served.stop.set()
    served.thread.join(PATIENCE_S)
    assert not served.thread.is_alive()
    assert time.monotonic() - started_at_s < 8


def test_the_loop_reports_about_every_second(served: Served) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while served.ticks < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_client_whose_body_is_not_read_gets_the_answer_and_keeps_its_connection(served: Served) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=PATIENCE_S)
    assert [served.post(connection, b"x" * 4_000_000) for _ in range(5)] == [413] * 5


@pytest.mark.parametrize(
    "start",
    [
        b"GET /",
        b"GET / HTTP/1.1\r\nX: ",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX: ",
    ],
    ids=["first line", "header", "trailer"],
)
def test_a_head_without_an_end_is_refused(served: Served, start: bytes) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE_S) as connection:
        connection.sendall(start)
        for _ in range(2):
            time.sleep(0.1)  # so that the server reads it in parts
            connection.sendall(b"x" * MAX_HEAD_BYTES)
        assert b"HTTP/1.1 431" in _all(connection)


@pytest.mark.parametrize("trailer", [False, True])
def test_a_head_of_many_headers_is_refused(served: Served, trailer: bool) -> None:
    headers = b"".join(b"X-%d: %b\r\n" % (number, b"x" * 100) for number in range(MAX_HEAD_BYTES // 100))
    in_chunks = b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n" if trailer else b""
    with socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE_S) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\n" + in_chunks + headers + b"\r\n")
        assert b"HTTP/1.1 431" in _all(connection)


def test_what_is_no_http_is_answered_with_a_problem(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE_S) as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        head, _, body = _all(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400") and b"application/problem+json" in head
    assert json.loads(body)["status"] == 400


def test_requests_of_one_connection_have_a_bound_each(served: Served) -> None:
    served.may_answer.set()
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=PATIENCE_S)
    for _ in range(5):
        connection.request("GET", "/", headers={"X": "x" * (MAX_HEAD_BYTES // 2)})
        assert connection.getresponse().read() == b"done"


def test_what_follows_an_answered_request_and_is_no_http_ends_the_connection_and_logs_nothing(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    served.may_answer.set()
    with socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE_S) as connection:
        # Refused before its body is read. What comes then is no chunk.
        connection.sendall(b"POST /refuse HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab")
        answer = b""
        while b"too large" not in answer:
            answer += connection.recv(1_000)
        assert answer.startswith(b"HTTP/1.1 413")
        connection.sendall(b"cdefgh\r\n")
        assert connection.recv(1_000) == b""
    assert served.get() == (200, b"done")
    assert not caplog.records


def test_a_body_that_turns_out_to_be_no_http_is_answered_once_and_logs_nothing(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE_S) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert served.entered.wait(PATIENCE_S)
        connection.sendall(b"no chunk\r\n")
        served.may_answer.set()
        answer = b""
        while received := connection.recv(1_000):
            answer += received
    assert answer.startswith(b"HTTP/1.1 400") and b"done" not in answer
    assert served.get() == (200, b"done")
    assert not caplog.records


@pytest.mark.parametrize("behind", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["alone", "another request behind"])
def test_a_stream_ends_when_its_client_has_gone(served: Served, behind: bytes) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE_S) as connection:
        connection.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n" + behind)
        assert served.entered.wait(PATIENCE_S)
    assert served.left.wait(PATIENCE_S)


def test_a_port_in_use_is_an_error_that_names_the_option(served: Served) -> None:
    with pytest.raises(UsageError, match="choose another --port"):
        bind("127.0.0.1", served.port, "--port")
    with pytest.raises(UsageError, match="cannot be listened on"):
        bind("no.such.host.invalid", 0, "--port")


def _all(connection: socket.socket) -> bytes:
    """What the server sends until it closes the connection."""
    parts = []
    while part := connection.recv(65_536):
        parts.append(part)
    return b"".join(parts)


def _await_refusal(port: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        assert time.monotonic() < deadline
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.02)
