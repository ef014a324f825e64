"""What every test against a real broker needs: settings of its own, an admin client, the topics of the design."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka.admin import KafkaAdminClient

from anabranch.harness.environment.broker import STOP_TIMEOUT_S, start_and_wait
from anabranch.harness.environment.kafka_node import KafkaNode, Quorum
from anabranch.harness.environment.processes import free_ports
from anabranch.harness.environment.server import Server
from anabranch.kafka.topics import Topics, provision
from anabranch.settings import Settings


@pytest.fixture
def settings(bootstrap_servers: str, topic_prefix: str, tmp_path: Path) -> Settings:
    """Settings for this test alone: its own topics, groups and folders.

    The retraining job publishes the co-visit table: few tests run the neighbours job.
    """
    return Settings(
        bootstrap_servers=bootstrap_servers,
        topic_prefix=topic_prefix,
        data_dir=tmp_path,
        partitions=2,
        live_neighbours=False,
    )


@pytest.fixture(scope="session")
def forgetful_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of a broker that deletes the offsets of an empty group after a minute instead of a week."""
    folder = tmp_path_factory.mktemp("forgetful")
    [port] = free_ports(1)
    retention = {"offsets.retention.minutes": 1, "offsets.retention.check.interval.ms": 1000}
    command = KafkaNode(folder, port, Quorum.single(), properties=retention).prepare()
    server = Server("broker", command, folder / "server.log", address=f"127.0.0.1:{port}")
    start_and_wait(server)
    yield server.address
    server.stop(STOP_TIMEOUT_S)


@pytest.fixture
def admin(bootstrap_servers: str) -> Iterator[KafkaAdminClient]:
    """An admin client of the broker."""
    client = KafkaAdminClient(bootstrap_servers=bootstrap_servers)
    yield client
    client.close()


@pytest.fixture
def topics(admin: KafkaAdminClient, settings: Settings) -> Topics:
    """The topics of the design, provisioned under this test's prefix."""
    provision(admin, settings)
    return Topics(settings)
