"""A real server on a port, and what must hold of it whatever bytes arrive there."""

from __future__ import annotations

import http.client
import logging
import os
import resource
import threading
import time
from collections import Counter
from collections.abc import Sequence

import pytest
from starlette.types import ASGIApp

from anabranch.http.admission import Admission
from anabranch.http.server import bind, serve
from anabranch.loop_status import LoopStatus
from tests.support.raw_requests import PATIENCE_S, RawRequests, ValidRequest, send_all

CONNECTIONS = int(os.environ.get("FUZZ_REQUESTS", "300"))
SEED = int(os.environ.get("FUZZ_SEED", "0"))
ROUND = 1_000
"""Conversations that are in memory at once."""
MEMORY_KIB = 100_000
"""How much more memory the process may take meanwhile: less than one compressed body would take in full."""


def attack(
    app: ASGIApp,
    status: LoopStatus,
    admission: Admission,
    valid: Sequence[ValidRequest],
    caplog: pytest.LogCaptureFixture,
) -> Counter[int]:
    """Send conversations of all kinds to a server; returns how often each status was answered.

    Checks that no answer is a defect, that the log has none, that memory stays, that nothing stays in flight, and that
    the server answers afterwards.
    """
    stop, listener = threading.Event(), bind("127.0.0.1", 0, "port")
    port = listener.getsockname()[1]
    server = threading.Thread(target=serve, args=(app, listener, stop, lambda: status.turned(None), 1))
    server.start()
    try:
        with caplog.at_level(logging.WARNING):
            requests, statuses = RawRequests(SEED, valid), Counter[int]()
            memory_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            for sent in range(0, CONNECTIONS, ROUND):
                conversations = [requests.conversation() for _ in range(min(ROUND, CONNECTIONS - sent))]
                statuses += send_all(port, conversations)
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory_kib < MEMORY_KIB
            _assert_answers(port, valid)
            _await_idle(admission)
    finally:
        stop.set()
        server.join(PATIENCE_S)
    assert not server.is_alive()
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]
    assert all(status < 500 or status == 503 for status in statuses), statuses
    return statuses


def _await_idle(admission: Admission) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while (admission.requests, admission.bytes) != (0, 0):
        assert time.monotonic() < deadline, (admission.requests, admission.bytes)
        time.sleep(0.01)


def _assert_answers(port: int, valid: Sequence[ValidRequest]) -> None:
    for method, path, body, headers in [*valid, ValidRequest("GET", "/healthz")]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        connection.request(method, path, body, {"Content-Type": "application/json", **headers})
        assert connection.getresponse().status < 300, path
        connection.close()
