"""What every test against a real broker needs: settings of its own, an admin client, the topics of the design."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka.admin import KafkaAdminClient

from anabranch.kafka.topics import Topics, provision
from anabranch.settings import Settings


@pytest.fixture
def settings(bootstrap_servers: str, topic_prefix: str, tmp_path: Path) -> Settings:
    """Settings for this test alone: its own topics, groups and folders."""
    return Settings(bootstrap_servers=bootstrap_servers, topic_prefix=topic_prefix, data_dir=tmp_path, partitions=2)


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
