"""Several nodes on this machine: what they answered for outlives any one of them, and a killed one comes back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kafka.admin import NewTopic

from anabranch.errors import UsageError
from anabranch.harness.environment.cluster import Cluster, start_cluster
from anabranch.kafka import clients
from anabranch.settings import Settings
from tests.kafka.world import PATIENCE_S, await_true


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with start_cluster(3, tmp_path_factory.mktemp("cluster")) as started:
        yield started


def test_every_node_lives_and_is_named_to_clients(cluster: Cluster) -> None:
    assert cluster.alive == {1, 2, 3}
    assert cluster.bootstrap_servers.count(",") == 2


def test_what_was_answered_for_outlives_a_killed_node_which_comes_back_in_sync(cluster: Cluster) -> None:
    topic = Topic(cluster, "outlives")
    topic.publish(b"before")
    assert topic.in_sync() == {1, 2, 3}
    leader = topic.leader()

    cluster.kill(leader)
    assert cluster.alive == {1, 2, 3} - {leader}
    topic.publish(b"during")
    assert topic.read() == [b"before", b"during"]
    assert topic.in_sync() == cluster.alive

    cluster.restart(leader)
    assert cluster.alive == {1, 2, 3}
    await_true(lambda: topic.in_sync() == {1, 2, 3}, "the node in sync again")
    topic.publish(b"after")
    assert topic.read() == [b"before", b"during", b"after"]


def test_all_nodes_killed_at_once_come_back_with_what_was_answered_for(cluster: Cluster) -> None:
    topic = Topic(cluster, "all-killed")
    topic.publish(b"before")

    cluster.kill(1, 2, 3)
    assert not cluster.alive
    cluster.restart(1, 2, 3)

    assert topic.read() == [b"before"]
    topic.publish(b"after")
    assert topic.read() == [b"before", b"after"]


def test_one_node_killed_comes_back_on_its_data_and_port(tmp_path: Path) -> None:
    with start_cluster(1, tmp_path) as cluster:
        topic = Topic(cluster, "kept", replicas=1)
        topic.publish(b"before")
        address = cluster.bootstrap_servers

        cluster.kill(1)
        assert not cluster.alive
        cluster.restart(1)

        assert cluster.bootstrap_servers == address
        assert topic.read() == [b"before"]


def test_a_node_goes_when_its_parent_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert _runs(pid)

    parent.kill()
    parent.wait()

    await_true(lambda: not _runs(pid), "the node's end")


@pytest.mark.parametrize("nodes", [0, 2])
def test_a_number_of_nodes_that_outlives_nothing_is_refused(nodes: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one node, or three or more"):
        start_cluster(nodes, tmp_path)


# --- what the tests do ------------------------------------------------------------------------------------------------


class Topic:
    """A topic of one partition on a cluster, written to with acks=all."""

    def __init__(self, cluster: Cluster, name: str, replicas: int = 3) -> None:
        self._name = name
        self._settings = Settings(bootstrap_servers=cluster.bootstrap_servers)
        configs = {"min.insync.replicas": str(min(replicas, 2))}
        with closing(clients.admin(self._settings)) as admin:
            admin.create_topics([NewTopic(name, 1, replicas, topic_configs=configs)])
            admin.wait_for_topics([name])

    def publish(self, value: bytes) -> None:
        with closing(clients.producer(self._settings, acks="all")) as producer:
            producer.send(self._name, value).get(PATIENCE_S)

    def read(self) -> list[bytes]:
        return [record.value for record in clients.read_to_end(self._settings, [self._name])]

    def leader(self) -> int:
        return int(self._partition()["leader_id"])

    def in_sync(self) -> set[int]:
        return set(self._partition()["isr_nodes"])

    def _partition(self) -> dict[str, Any]:
        with closing(clients.admin(self._settings)) as admin:
            found: dict[str, Any] = admin.describe_topics([self._name])[0]["partitions"][0]
            return found


PARENT = """
import sys, time
from pathlib import Path
from anabranch.harness.environment.cluster import start_cluster
with start_cluster(1, Path(sys.argv[1])) as cluster:
    print(cluster.nodes[1].pid, flush=True)
    time.sleep(60)
"""


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
