"""The serving API without a broker."""

from __future__ import annotations

import pytest

from tests.support.api_world import warm_replica
from tests.support.replica_world import ReplicaProcess
from tests.support.serving_api import Api


@pytest.fixture(scope="session")
def replica(tmp_path_factory: pytest.TempPathFactory) -> ReplicaProcess:
    """Requests change nothing in it."""
    return warm_replica(tmp_path_factory.mktemp("ranker"))


@pytest.fixture
def api(replica: ReplicaProcess) -> Api:
    return Api(replica)
