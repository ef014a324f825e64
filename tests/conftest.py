"""One real broker for all tests of a process that need one; each test gets its own topics by a prefix.

ANABRANCH_BOOTSTRAP_SERVERS names a broker; else Apache Kafka is started. `make test` runs two processes (pytest-xdist).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

from anabranch.harness.environment.broker import Broker, open_broker
from tests.support.topic_prefixes import unique_prefix

BROKERS = pytest.StashKey[list[str]]()
"""What the summary says of each broker."""


@pytest.fixture(scope="session")
def broker(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """The broker all tests share; started when the first test asks for it."""
    given = os.environ.get("ANABRANCH_BOOTSTRAP_SERVERS")
    with open_broker(given, tmp_path_factory.mktemp("broker")) as opened:
        pytestconfig.stash[BROKERS].append(f"{opened.kind} at {opened.bootstrap_servers}: {opened.limitations}")
        yield opened


@pytest.fixture(scope="session")
def bootstrap_servers(broker: Broker) -> str:
    """host:port of the broker."""
    return broker.bootstrap_servers


@pytest.fixture
def topic_prefix() -> str:
    """A prefix for this test's topics and groups, which no other test has."""
    return unique_prefix()


def pytest_configure(config: pytest.Config) -> None:
    """Compile every loop once a run, and let no thread spin: for this process, and for all that tests start.

    Nor does the width of the terminal, which a shell or CI may export, change what commands print.
    """
    config.stash[BROKERS] = []
    os.environ.pop("COLUMNS", None)
    if hasattr(config, "workerinput"):  # the main process has set both, and removes the folder
        return
    # PyTorch's threads wait for each other in a loop, which next to other processes takes most of the processors' time.
    # OpenMP reads this when it is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    folder = tempfile.mkdtemp(prefix="anabranch-compiled-")
    os.environ["NUMBA_CACHE_DIR"] = folder
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the brokers of this process to the main one, which prints the summary."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["brokers"] = session.config.stash[BROKERS]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take them from a process that has ended; one that crashed hands over nothing."""
    node.config.stash[BROKERS] += getattr(node, "workeroutput", {}).get("brokers", [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which brokers the tests ran on."""
    if config.stash[BROKERS]:
        terminalreporter.section("brokers")
    for line in config.stash[BROKERS]:
        terminalreporter.line(line)
