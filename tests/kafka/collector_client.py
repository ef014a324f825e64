"""A client of `anabranch collect`, which a test has started as a process."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import msgspec

from anabranch.messages import Event
from tests.kafka.world import Process

ANY_PORT = ("--port", "0", "--metrics-port", "0")
READY = "events are taken at "


class Client:
    """A shop's server: one connection, requests one after the other."""

    def __init__(self, process: Process, key: str | None = None) -> None:
        url = urlsplit(process.await_log(READY).split(READY)[1])
        assert url.hostname == "127.0.0.1" and url.port is not None
        self._address = (url.hostname, url.port)
        self._headers = {"Content-Type": "application/json"}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"
        self._connection = http.client.HTTPConnection(*self._address, timeout=60)

    def post(self, path: str, body: object, headers: Mapping[str, str] = {}) -> tuple[int, bytes]:
        """Status and body of the answer. Raises `OSError` or `HTTPException` if there is none."""
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        self._connection.request("POST", path, content, self._headers | dict(headers))
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def send(self, events: Sequence[Event | dict[str, Any]]) -> tuple[int, dict[str, Any]]:
        """Status and answer. Raises `OSError` or `HTTPException` if there is none."""
        status, body = self.post("/v1/events", events)
        return status, json.loads(body)

    def status(self, path: str) -> int:
        with closing(http.client.HTTPConnection(*self._address, timeout=60)) as connection:
            connection.request("GET", path)
            return connection.getresponse().status
