"""The server on a real port, and how it ends."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx2

from consumers.api.answers.answering import Outcome
from consumers.api.answers.queries import Query
from consumers.api.server import ApiServer
from tests.support.ranker_world import RankerWorld, purchases
from tests.support.replica_world import ReplicaProcess

PATIENCE_S = 60.0
PATH = "/v1/users/u1/recommendations"


def test_at_the_stop_requests_in_flight_are_answered(world: RankerWorld) -> None:
    """The second one waits behind the first, which is held back until the stop."""
    world.rank(*purchases(8))
    replica = ReplicaProcess(world, serve_port=0)
    replica.settle()
    stop, is_asked = threading.Event(), threading.Event()
    server = ApiServer(replica.settings, replica.replica, replica.metrics, threading.Event())
    answer = server._answering.answer

    def held(queries: Sequence[Query]) -> list[Outcome]:
        is_asked.set()
        assert stop.wait(PATIENCE_S)
        return answer(queries)

    server._answering.answer = held  # type: ignore[method-assign]
    host, port = server._listener.getsockname()
    with ThreadPoolExecutor(3) as pool:
        running = pool.submit(server.run, stop)
        first = pool.submit(httpx2.get, f"http://{host}:{port}{PATH}", timeout=PATIENCE_S)
        assert is_asked.wait(PATIENCE_S)
        second = pool.submit(httpx2.get, f"http://{host}:{port}{PATH}", timeout=PATIENCE_S)
        while not server._queue._waiting:
            assert not second.done()
        stop.set()
        assert [request.result().status_code for request in (first, second)] == [200, 200]
        running.result(PATIENCE_S)
