"""Apache Kafka on several nodes of this machine, any of which can be killed and comes back on its data."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from types import TracebackType

from kafka.errors import KafkaError

from anabranch.errors import UsageError
from anabranch.harness.environment.broker import START_SECONDS, admin_client, kafka_command
from anabranch.harness.environment.server import Server, free_ports

STOP_SECONDS = 10.0
"""The last nodes miss the majority that an orderly end needs, and may wait minutes for it; as a rule three stopped
together are gone after 7 s."""


@dataclass(frozen=True)
class Cluster:
    """Nodes by id, from 1. As a context manager it is stopped at the end."""

    nodes: Mapping[int, Server]

    @property
    def bootstrap_servers(self) -> str:
        """Every node's host:port, separated by commas, whether it lives or not."""
        return ",".join(node.address for node in self.nodes.values())

    @property
    def alive(self) -> frozenset[int]:
        """The nodes whose processes run."""
        return frozenset(number for number, node in self.nodes.items() if node.alive)

    def kill(self, *numbers: int) -> None:
        """kill -9 these nodes; their data stays as it was at that moment. Safe to call again."""
        for number in numbers:
            self.nodes[number].kill()

    def restart(self, *numbers: int) -> None:
        """Start those of these nodes that are dead, on their data and ports, and wait until the cluster counts them in.

        That takes a majority of all nodes: restart several at once if too few live. A node killed just now is
        taken back only after `broker.session.timeout.ms`. Raises `BrokerUnavailable`, with the end of a log; they are
        dead then.
        """
        dead = [number for number in numbers if number not in self.alive]
        try:
            for number in dead:
                self.nodes[number].start()
            for number in dead:
                self.nodes[number].await_answer(_counts(self.alive), START_SECONDS)
        except BaseException:
            self.kill(*dead)
            raise

    def stop(self) -> None:
        """Stop every node, and wait until all are gone. Safe to call again."""
        for node in self.nodes.values():
            node.terminate()
        for node in self.nodes.values():
            node.stop(STOP_SECONDS)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start_cluster(nodes: int, data_dir: Path) -> Cluster:
    """Start so many nodes on free ports of 127.0.0.1, data and log of each in `data_dir`/`number`; wait until they
    answer and know each other.

    One is a plain broker. More must be three at least, for every message is on three of them, and of two neither may
    go on alone. Raises `UsageError` for other numbers and outside a clone, `BrokerUnavailable` if they do not answer.
    """
    if nodes < 1 or nodes == 2:
        raise UsageError(f"a cluster has one node, or three or more; not {nodes}")
    cluster = Cluster(dict(enumerate(_servers(nodes, data_dir.resolve()), start=1)))
    cluster.restart(*cluster.nodes)
    return cluster


def _servers(count: int, data_dir: Path) -> Iterator[Server]:
    ports = free_ports(2 * count)
    clients, controllers = ports[:count], ports[count:]
    quorum = ",".join(f"{number}@127.0.0.1:{port}" for number, port in enumerate(controllers, start=1))
    common = ["--quorum", quorum, "--cluster-id", token_hex(11)]
    for number, port in enumerate(clients, start=1):
        folder = data_dir / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        options = ["--node", str(number), *common] if count > 1 else []
        yield Server(
            kafka_command(folder, port, *options),
            f"127.0.0.1:{port}",
            folder / "server.log",
            death_signal=signal.SIGKILL,  # see STOP_SECONDS
        )


def _counts(wanted: frozenset[int]) -> Callable[[str], bool]:
    """Whether the node at an address answers, and all the wanted ones serve."""

    def answers(address: str) -> bool:
        try:
            with admin_client(address) as admin:
                known = admin.describe_cluster()["brokers"]
        except (OSError, KafkaError):
            return False
        return wanted <= {one["broker_id"] for one in known if not one["is_fenced"]}

    return answers
