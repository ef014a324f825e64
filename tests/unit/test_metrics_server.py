"""What a process answers over HTTP."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from anabranch.errors import UsageError
from anabranch.loop_status import LoopStatus
from anabranch.metrics_server import MetricsServer, serve
from consumers.indexer.metrics import IndexerMetrics
from tests.support.in_memory_kafka import ManualClock


class Answering:
    """A process's server, with a clock of its own."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.registry = CollectorRegistry()
        self.loop = LoopStatus(120, lambda: self.clock.seconds)
        self.server: MetricsServer = serve(self.registry, self.loop, 0)

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.server.port}{path}") as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


@pytest.fixture
def process() -> Iterator[Answering]:
    answering = Answering()
    with answering.server:
        yield answering


def test_metrics_are_those_of_the_registry(process: Answering) -> None:
    IndexerMetrics(process.registry).items.set(7)
    status, text = process.get("/metrics")
    assert status == 200
    assert "anabranch_catalogue_items 7.0" in text


def test_ready_says_in_one_line_what_is_missing(process: Answering) -> None:
    process.loop.turned("partition 1 is restoring, not yet ranked")
    assert process.get("/ready") == (503, "partition 1 is restoring, not yet ranked\n")
    assert process.get("/health") == (200, "ok\n")
    process.loop.turned(None)
    assert process.get("/ready") == (200, "ok\n")


def test_a_process_that_hangs_is_neither_healthy_nor_ready_and_still_exports_its_metrics(process: Answering) -> None:
    process.loop.turned(None)
    process.clock.advance(121)
    assert process.get("/health") == (503, "the main loop has not turned for 121 s: more than 120 s\n")
    assert process.get("/ready")[0] == 503
    assert process.get("/metrics")[0] == 200


def test_any_other_path_names_those_there_are(process: Answering) -> None:
    assert process.get("/") == (404, "there are /metrics, /health, /ready\n")


def test_a_taken_port_says_what_to_do() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(UsageError, match="choose another --metrics-port"),
    ):
        serve(CollectorRegistry(), LoopStatus(1), taken.getsockname()[1])
