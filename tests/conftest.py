"""One real broker for all tests that need one; each test gets its own topics by a prefix.

ANABRANCH_BOOTSTRAP_SERVERS names a broker; else Apache Kafka is started.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from uuid import uuid4

import pytest

from anabranch.harness.environment.broker import Broker, open_broker

BROKER = pytest.StashKey[Broker]()


@pytest.fixture(scope="session")
def broker(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """The broker all tests share; started when the first test asks for it."""
    given = os.environ.get("ANABRANCH_BOOTSTRAP_SERVERS")
    with open_broker(given, tmp_path_factory.mktemp("broker")) as opened:
        pytestconfig.stash[BROKER] = opened
        yield opened


@pytest.fixture(scope="session")
def bootstrap_servers(broker: Broker) -> str:
    """host:port of the broker."""
    return broker.bootstrap_servers


@pytest.fixture
def topic_prefix() -> str:
    """A prefix for this test's topics and groups, which no other test has."""
    return f"test-{uuid4().hex[:12]}."


def pytest_configure(config: pytest.Config) -> None:
    """Compile every loop once a run, and not again in each of the rankers that tests start."""
    folder = tempfile.mkdtemp(prefix="anabranch-compiled-")
    os.environ["NUMBA_CACHE_DIR"] = folder
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which broker the tests ran on."""
    broker = config.stash.get(BROKER, None)
    if broker is None:
        return
    terminalreporter.section("broker")
    terminalreporter.line(f"{broker.kind} at {broker.bootstrap_servers}: {broker.limitations}")
