"""Bytes that clients send to a server's socket: whole requests, and all that can be wrong with them."""

from __future__ import annotations

import gzip
import random
import re
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, NamedTuple

STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
SILENCE_S = 0.2
"""A server that has sent nothing for so long is not waited for."""
PATIENCE_S = 10.0
CLIENTS = 8
RESET = struct.pack("ii", 1, 0)
"""For SO_LINGER: close with a reset."""
MANY_BYTES = 150_000_000
"""Of a gzip body of less than 150 kB."""


class ValidRequest(NamedTuple):
    """A request that is answered with 2xx."""

    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = {}

    def head(self, **changes: str | None) -> bytes:
        """First line and headers; `changes` are headers, with _ for -, None to leave one out."""
        headers: dict[str, str | None] = {"Host": "x", "Content-Type": "application/json", **self.headers}
        headers["Content-Length"] = str(len(self.body))
        headers |= {name.replace("_", "-"): value for name, value in changes.items()}
        lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
        return "\r\n".join([f"{self.method} {self.path} HTTP/1.1", *lines, "\r\n"]).encode("latin-1")

    def whole(self) -> bytes:
        """The request."""
        return self.head() + self.body


class Conversation(NamedTuple):
    """What a client sends over one connection, and what it does then."""

    parts: Sequence[bytes]
    end: Literal["read", "leave", "reset"] = "read"


class RawRequests:
    """Makes conversations of valid requests."""

    def __init__(self, seed: int, valid: Sequence[ValidRequest]) -> None:
        self._rng = random.Random(seed)
        self._valid = valid
        self._bomb = gzip.compress(b"[" + b" " * MANY_BYTES, 9)
        self._kinds: Sequence[Callable[[ValidRequest], Conversation]] = [
            *(self._valid_requests, self._half_request, self._long_head, self._odd_first_line, self._odd_headers),
            *(self._wrong_length, self._chunks, self._broken_chunks, self._odd_path, self._compressed_bomb),
            *(self._slow_body, self._random_bytes, self._corrupted),
        ]

    def conversation(self) -> Conversation:
        """Of any kind."""
        return self._rng.choice(self._kinds)(self._rng.choice(self._valid))

    def _valid_requests(self, request: ValidRequest) -> Conversation:
        """Sent at once (pipelining), all but the last of them perhaps invalid."""
        requests = [self._rng.choice(self._valid).whole() for _ in range(self._rng.choice([1, 2, 20]))]
        odd = self._rng.choice([b"", b"", b"\r\n\r\n", b"GET\r\n\r\n", b"\x00"])
        return Conversation([odd.join([*requests, request.whole()])])

    def _half_request(self, request: ValidRequest) -> Conversation:
        whole = request.whole()
        return Conversation([whole[: self._rng.randrange(len(whole))]], self._rng.choice(["leave", "reset"]))

    def _long_head(self, request: ValidRequest) -> Conversation:
        size = self._rng.choice([1_000, 16_000, 70_000, 1_000_000])
        padding = self._rng.choice([f"X: {'x' * size}\r\n", "X: y\r\n" * (size // 6), f"X{'x' * size}", " \r\n"])
        head = request.head()[:-2] + padding.encode()
        return Conversation([head, b"\r\n" * self._rng.randrange(2), request.body])

    def _odd_first_line(self, request: ValidRequest) -> Conversation:
        line = self._rng.choice(
            [
                *(
                    b"GET / HTTP/1.0",
                    b"GET / HTTP/2.0",
                    b"GET / HTTP/9",
                    b"GET /",
                    b"GET  /  HTTP/1.1",
                    b"\xff / HTTP/1.1",
                ),
                *(
                    b"PRI * HTTP/2.0\r\n\r\nSM",
                    b"GET http://other/ HTTP/1.1",
                    b"OPTIONS * HTTP/1.1",
                    b"CONNECT a:1 HTTP/1.1",
                ),
                *(b"POST / HTTP/1.1\r\nExpect: 100-continue", b"GET / HTTP/1.1\r\nUpgrade: h2c", b"TRACE / HTTP/1.1"),
                *(b"\x16\x03\x01\x02\x00\x01\x00", b"A" * 20_000 + b" / HTTP/1.1", b"GET /\x00 HTTP/1.1"),
            ]
        )
        return Conversation([line + b"\r\n" + request.head().split(b"\r\n", 1)[1], request.body])

    def _odd_headers(self, request: ValidRequest) -> Conversation:
        odd = self._rng.choice(
            [
                *(b"\xff: x", b"X: \x00", b"X: \xff\xfe", b": x", b"no colon", b" folded: x", b"X : y", b"X: a\rb"),
                *(b"Host: a\r\nHost: b", b"Authorization: Bearer \xff", b"Authorization: Basic \xff", b"Origin: \xff"),
                *(
                    b"Content-Type: \xff",
                    b"Content-Encoding: \xff",
                    b"Transfer-Encoding: gzip",
                    b"Connection: \xff, close",
                ),
                *(b"Accept: \x80", b"Cookie: " + b"a=b; " * 2_000, b"If-None-Match: \xff", b"Last-Event-ID: \xff"),
            ]
        )
        line, _, rest = request.head().partition(b"\r\n")
        return Conversation([line + b"\r\n" + odd + b"\r\n" + rest, request.body])

    def _wrong_length(self, request: ValidRequest) -> Conversation:
        length = len(request.body)
        odd = [
            length + 1,
            length + 5_000,
            max(0, length - 3),
            -1,
            10**30,
            "x",
            "",
            "1_0",
            "0x10",
            f"{length}, {length}",
        ]
        head = request.head(Content_Length=str(self._rng.choice([*odd, f"{length}\r\nContent-Length: {length + 1}"])))
        return Conversation([head + request.body], self._rng.choice(["read", "leave", "reset"]))

    def _chunks(self, request: ValidRequest) -> Conversation:
        head = request.head(Content_Length=None, Transfer_Encoding="chunked")
        return Conversation([head, *map(_chunk, _parts(request.body, self._rng)), b"0\r\n\r\n"])

    def _broken_chunks(self, request: ValidRequest) -> Conversation:
        head = request.head(Content_Length=None, Transfer_Encoding="chunked")
        odd = self._rng.choice(
            [
                *(
                    b"-1\r\n\r\n",
                    b"f" * 16 + b"\r\n",
                    b"f" * 40 + b"\r\n",
                    b"zz\r\n",
                    b"5\r\nab",
                    b"2\r\nabcd\r\n",
                    b"\r\n",
                ),
                *(
                    b"1;" + b"x" * 30_000 + b"\r\na\r\n0\r\n\r\n",
                    b"0\r\nX: " + b"y" * 30_000 + b"\r\n\r\n",
                    b"0\r\n\x00\r\n\r\n",
                ),
            ]
        )
        parts = [head, _chunk(request.body[:5]), odd]
        both = [request.head(Transfer_Encoding="chunked"), _chunk(request.body), b"0\r\n\r\n"]
        return Conversation(self._rng.choice([parts, parts, both]), self._rng.choice(["read", "leave", "reset"]))

    def _odd_path(self, request: ValidRequest) -> Conversation:
        odd = self._rng.choice(
            [
                *(
                    b"/%ff",
                    b"/%00",
                    b"/\xff\xfe",
                    b"/%",
                    b"/%zz",
                    b"//",
                    b"/../../etc/passwd",
                    b"/%2e%2e/",
                    b"/\xc3\xa9",
                ),
                *(
                    b"?a=%ff&a=%00",
                    b"?key=\xff",
                    b"?" + b"a&" * 5_000,
                    b"?limit=%EF%BC%95",
                    b"?" + b"=" * 100,
                    b"#x",
                    b"/%ud800",
                ),
            ]
        )
        method, path, rest = request.whole().split(b" ", 2)
        return Conversation([b" ".join([method, self._rng.choice([path + odd, odd]), rest])])

    def _compressed_bomb(self, request: ValidRequest) -> Conversation:
        head = request.head(Content_Encoding="gzip", Content_Length=str(len(self._bomb)))
        return Conversation([head, self._bomb])

    def _slow_body(self, request: ValidRequest) -> Conversation:
        whole = request.whole()
        cut = max(1, len(whole) - self._rng.randrange(1, 30))
        return Conversation([whole[:cut], *(whole[n : n + 1] for n in range(cut, len(whole)))])

    def _random_bytes(self, request: ValidRequest) -> Conversation:
        return Conversation([self._rng.randbytes(self._rng.choice([1, 100, 5_000]))], "leave")

    def _corrupted(self, request: ValidRequest) -> Conversation:
        whole = bytearray(request.whole())
        for _ in range(self._rng.choice([1, 3, 10])):
            start = self._rng.randrange(len(whole))
            whole[start : start + self._rng.randrange(3)] = self._rng.randbytes(self._rng.randrange(3))
        return Conversation([bytes(whole)])


def send_all(port: int, conversations: Sequence[Conversation]) -> Counter[int]:
    """How often each status was answered, while several clients send at the same time."""
    statuses = Counter[int]()
    with ThreadPoolExecutor(CLIENTS) as clients:
        for answer in clients.map(lambda conversation: _send(port, conversation), conversations):
            statuses.update(int(status) for status in STATUS.findall(answer))
    return statuses


def _send(port: int, conversation: Conversation) -> bytes:
    """All that is answered."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        try:
            for part in conversation.parts:
                connection.sendall(part)
                time.sleep(0.001)
            if conversation.end == "read":
                return _read(connection)
            if conversation.end == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        except ConnectionError:
            pass  # the server may end what it does not understand
    return b""


def _read(connection: socket.socket) -> bytes:
    answer = bytearray()
    connection.settimeout(SILENCE_S)
    try:
        while received := connection.recv(65_536):
            answer += received
    except (TimeoutError, ConnectionError):
        pass
    return bytes(answer)


def _chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content) if content else b""


def _parts(content: bytes, rng: random.Random) -> list[bytes]:
    cuts = sorted(rng.randint(0, len(content)) for _ in range(3))
    return [content[start:end] for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True)]
