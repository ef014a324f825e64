"""The applications of both servers, each without a broker."""

from __future__ import annotations

import pytest

from tests.support.api_world import Api
from tests.support.ranker_world import RankerWorld, purchases
from tests.support.replica_world import ReplicaProcess


@pytest.fixture(scope="session")
def replica(tmp_path_factory: pytest.TempPathFactory) -> ReplicaProcess:
    """A replica that knows some users. Requests change nothing in it."""
    world = RankerWorld(tmp_path_factory.mktemp("ranker"))
    world.rank(*purchases(40))
    replica = ReplicaProcess(world)
    replica.settle()
    return replica


@pytest.fixture
def api(replica: ReplicaProcess) -> Api:
    return Api(replica)
