"""One real broker for all tests that need one; each test gets its own topics by a prefix.

ANABRANCH_BOOTSTRAP_SERVERS names a broker; else Apache Kafka is started from deploy/kafka. Where Java or Maven is
missing, the embedded broker stands in and the summary says what that leaves untested; with CI=true that fails instead.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from anabranch.harness.environment.broker import Broker, missing_for_kafka, open_broker

BROKER = pytest.StashKey[Broker]()
LEFT_UNTESTED = (
    "these tests ran on the embedded broker, not on Apache Kafka. Left untested: that the partitions of a killed "
    "ranker move, that a replaced ranker is fenced, fetch limits, retention and the cleaner, recovery of the log after "
    "kill -9, metadata that lags behind an admin call, and deploy/kafka itself. Install Java 17 and Maven to test them."
)


@pytest.fixture(scope="session")
def broker(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """The broker all tests share; started when the first test asks for it."""
    with _open(tmp_path_factory.mktemp("broker")) as opened:
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
    """Say which broker the tests ran on, and what that leaves untested."""
    broker = config.stash.get(BROKER, None)
    if broker is None:
        return
    terminalreporter.section("broker")
    terminalreporter.line(f"{broker.kind} at {broker.bootstrap_servers}: {broker.limitations}")
    if broker.kind == "embedded":
        terminalreporter.line(LEFT_UNTESTED, yellow=True)


def _open(data_dir: Path) -> Broker:
    given = os.environ.get("ANABRANCH_BOOTSTRAP_SERVERS")
    missing = missing_for_kafka()
    if given is None and missing and os.environ.get("CI") == "true":
        pytest.fail(f"CI=true and no broker: Apache Kafka needs {' and '.join(missing)}", pytrace=False)
    return open_broker(given, want_kafka=not missing, data_dir=data_dir)
