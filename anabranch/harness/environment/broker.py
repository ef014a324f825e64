"""One broker for the demo and the tests: given by its address, or started as a child process and stopped at the end.

`anabranch.harness.environment.cluster` starts several nodes that replicate each other, and `local_broker` one that runs
on when the command that started it has ended.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from anabranch.harness.environment.kafka_node import KafkaNode, Quorum
from anabranch.harness.environment.processes import free_ports
from anabranch.harness.environment.server import Server

BrokerKind = Literal["given", "kafka"]

LIMITATIONS: Mapping[BrokerKind, str] = {
    "given": "replication, retention and access are as you configured them",
    "kafka": "Apache Kafka on one node without replication: data is lost with its disk",
}
NO_PROPERTIES: Mapping[str, object] = {}
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0


@dataclass
class Broker:
    """A broker that answers at `bootstrap_servers`; as a context manager it is stopped at the end."""

    kind: BrokerKind
    bootstrap_servers: str
    _server: Server | None = field(default=None, repr=False)

    @property
    def limitations(self) -> str:
        """What this kind of broker does not guarantee, for the banner."""
        return LIMITATIONS[self.kind]

    @property
    def pid(self) -> int | None:
        """The process id, which is its group's id too; None if the broker was given, or has stopped."""
        return None if self._server is None else self._server.pid

    def stop(self) -> None:
        """Stop the process and wait for its end; a given broker is left alone. Safe to call again."""
        if self._server is not None:
            self._server.stop(STOP_TIMEOUT_S)

    def __enter__(self) -> Broker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def open_broker(bootstrap_servers: str | None, data_dir: Path) -> Broker:
    """The given broker, or else Apache Kafka, started and answering. Raises as `start_broker` does."""
    return start_broker(data_dir) if bootstrap_servers is None else Broker("given", bootstrap_servers)


def start_broker(data_dir: Path, properties: Mapping[str, object] = NO_PROPERTIES) -> Broker:
    """Start Apache Kafka on a free port of 127.0.0.1, with its data and log in `data_dir`; wait until it answers.

    `properties` of the server override ours. Data of an earlier start in the same folder is kept. Raises
    `BrokerUnavailable`, with the end of the log, if it does not answer, and `UsageError` if it is not installed.
    """
    folder = data_dir.resolve()
    [port] = free_ports(1)
    command = KafkaNode(folder, port, Quorum.single(), properties=properties).prepare()
    server = Server("broker", command, folder / "server.log", address=f"127.0.0.1:{port}")
    start_and_wait(server)
    return Broker("kafka", server.address, server)


def start_and_wait(server: Server) -> None:
    """Start a broker's process and wait until it answers; stop it if it does not. Raises `BrokerUnavailable`."""
    try:
        server.start()
        server.wait_until_ready(answers, START_TIMEOUT_S)
    except BaseException:
        server.stop(STOP_TIMEOUT_S)
        raise


@contextmanager
def admin_client(address: str) -> Iterator[KafkaAdminClient]:
    """An admin client of the node at host:port. Raises `OSError`, at once, if nobody listens, and `KafkaError`."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), timeout=1.0).close()
    with closing(KafkaAdminClient(bootstrap_servers=address, client_id="anabranch-broker")) as client:
        yield client


def answers(address: str) -> bool:
    """Whether the broker at host:port answers a request."""
    try:
        with admin_client(address) as admin:
            admin.list_topics()
        return True
    except (OSError, KafkaError):
        return False
