"""Apache Kafka on several nodes of this machine, which can be killed and started again with their data."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from kafka.errors import KafkaError

from anabranch.errors import UsageError
from anabranch.harness.environment.broker import START_TIMEOUT_S, admin_client
from anabranch.harness.environment.kafka_node import KafkaNode, Quorum
from anabranch.harness.environment.processes import free_ports
from anabranch.harness.environment.server import Server

STOP_TIMEOUT_S = 10.0
"""The last nodes to stop lack the majority that an orderly end needs and may wait minutes for it. Three nodes that are
stopped together usually end within 7 s."""


@dataclass(frozen=True)
class Cluster:
    """Nodes by id, from 1. As a context manager it stops them at the end."""

    nodes: Mapping[int, Server]

    @property
    def bootstrap_servers(self) -> str:
        """Every node's host:port, separated by commas, whether it runs or not."""
        return ",".join(node.address for node in self.nodes.values())

    @property
    def alive(self) -> frozenset[int]:
        """Ids of the nodes whose processes run."""
        return frozenset(node_id for node_id, node in self.nodes.items() if node.alive)

    def kill(self, *node_ids: int) -> None:
        """kill -9 these nodes; their data stays as it was at that moment. Safe to call again."""
        for node_id in node_ids:
            self.nodes[node_id].kill()

    def restart(self, *node_ids: int) -> None:
        """Start those of these nodes that do not run, with their data and ports; wait until they are cluster members.

        That takes a majority of all nodes: restart several at once if fewer run. The cluster takes a killed node back
        only after `broker.session.timeout.ms`. Raises `BrokerUnavailable`, with the end of a log, and kills the nodes
        that it started.
        """
        dead = [node_id for node_id in node_ids if node_id not in self.alive]
        try:
            for node_id in dead:
                self.nodes[node_id].start()
            for node_id in dead:
                self.nodes[node_id].wait_until_ready(_has_members(self.alive), START_TIMEOUT_S)
        except BaseException:
            self.kill(*dead)
            raise

    def stop(self) -> None:
        """Stop every node and wait for their end. Safe to call again."""
        for node in self.nodes.values():
            node.terminate()
        for node in self.nodes.values():
            node.stop(STOP_TIMEOUT_S)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start_cluster(nodes: int, data_dir: Path) -> Cluster:
    """Start nodes on free ports of 127.0.0.1, with data and log of each in `data_dir`/`node id`; wait until all are
    members.

    One node is a broker without replication. More must be at least three: the replication factor is three, and of two
    nodes neither has a majority without the other. Raises `UsageError` for other numbers and if Apache Kafka is not
    installed, `BrokerUnavailable` if the nodes do not answer.
    """
    if nodes < 1 or nodes == 2:
        raise UsageError(f"a cluster has one node, or three or more; not {nodes}")
    cluster = Cluster(dict(enumerate(_servers(nodes, data_dir.resolve()), start=1)))
    cluster.restart(*cluster.nodes)
    return cluster


def _servers(count: int, data_dir: Path) -> list[Server]:
    ports = free_ports(2 * count)
    quorum = Quorum(dict(enumerate(ports[count:], start=1)))
    nodes = [
        KafkaNode(data_dir / str(node_id), port, quorum, node_id) for node_id, port in enumerate(ports[:count], start=1)
    ]
    with ThreadPoolExecutor(count) as pool:  # each formats its storage, which takes seconds
        commands = list(pool.map(KafkaNode.prepare, nodes))
    return [
        Server(
            f"broker {node.node_id}",
            command,
            node.folder / "server.log",
            death_signal=signal.SIGKILL,  # see STOP_TIMEOUT_S
            address=f"127.0.0.1:{node.port}",
        )
        for node, command in zip(nodes, commands, strict=True)
    ]


def _has_members(node_ids: frozenset[int]) -> Callable[[str], bool]:
    """A check whether the node at an address answers and sees all these nodes as unfenced members."""

    def answers(address: str) -> bool:
        try:
            with admin_client(address) as admin:
                members = admin.describe_cluster()["brokers"]
        except (OSError, KafkaError):
            return False
        return node_ids <= {member["broker_id"] for member in members if not member["is_fenced"]}

    return answers
