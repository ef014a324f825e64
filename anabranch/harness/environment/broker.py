"""One broker for the demo and the tests: given by its address, or started as a child process and stopped at the end.

`anabranch.harness.environment.cluster` starts several nodes that replicate each other.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Literal

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from anabranch.errors import BrokerUnavailable, UsageError
from anabranch.harness.environment.processes import free_ports
from anabranch.harness.environment.server import Server

BrokerKind = Literal["given", "kafka", "embedded"]

LIMITATIONS: Mapping[BrokerKind, str] = {
    "given": "replication, retention and access are as you configured them",
    "kafka": "Apache Kafka on one node without replication: data is lost with its disk",
    "embedded": (
        "noida-db, an embedded substitute for Kafka, for demonstration only: it keeps everything in memory and loses "
        "what it has not saved when it is killed, never gives a killed ranker's partitions to another, does not fence "
        "a replaced ranker, and ignores retention"
    ),
}
SCRIPT = Path(__file__).resolve().parents[3] / "deploy" / "kafka" / "broker"
KAFKA_REQUIRES = ("java", "mvn")
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
"""The embedded broker saves all its data when it stops: measured 18 s for 1.4 GB."""


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


def choose(bootstrap_servers: str | None, want_kafka: bool) -> BrokerKind:
    """Which broker to use: the given one, else Apache Kafka if `want_kafka`, else the embedded one.

    Raises `UsageError` if `want_kafka` and something that Apache Kafka needs is missing.
    """
    if bootstrap_servers is not None:
        return "given"
    if not want_kafka:
        return "embedded"
    missing = missing_for_kafka()
    if missing:
        raise UsageError(f"Apache Kafka needs {' and '.join(missing)}: install it, or use the embedded broker")
    return "kafka"


def missing_for_kafka() -> list[str]:
    """What Apache Kafka from `deploy/kafka` needs and this machine lacks; empty if it can be started."""
    missing = [command for command in KAFKA_REQUIRES if shutil.which(command) is None]
    return missing if SCRIPT.is_file() else [*missing, "a clone of the repository (deploy/kafka/broker)"]


def open_broker(bootstrap_servers: str | None, want_kafka: bool, data_dir: Path) -> Broker:
    """The broker that `choose` selects, started and answering. Raises as `choose` and `start_broker` do."""
    kind = choose(bootstrap_servers, want_kafka)
    if bootstrap_servers is not None:
        return Broker(kind, bootstrap_servers)
    return start_broker("kafka" if kind == "kafka" else "embedded", data_dir)


def start_broker(kind: Literal["kafka", "embedded"], data_dir: Path) -> Broker:
    """Start a broker on a free port of 127.0.0.1, with its data and log in `data_dir`, and wait until it answers.

    Data of an earlier start in the same folder is kept. Raises `BrokerUnavailable`, with the end of the log, if it
    does not answer, and `UsageError` if it is not installed.
    """
    data_dir = data_dir.resolve()
    data_dir.mkdir(parents=True, exist_ok=True)
    [port] = free_ports(1)
    command = kafka_command(data_dir, port) if kind == "kafka" else _embedded_command(data_dir, port)
    server = Server("broker", command, data_dir / "server.log", address=f"127.0.0.1:{port}")
    try:
        server.start()
        server.wait_until_ready(_answers, START_TIMEOUT_S)
    except BaseException:
        server.stop(STOP_TIMEOUT_S)
        raise
    return Broker(kind, server.address, server)


def kafka_command(data_dir: Path, port: int, *options: str) -> list[str]:
    """The command that runs Apache Kafka in the foreground; `options` are those of `deploy/kafka/broker`.

    Raises `UsageError` outside a clone of the repository, and `BrokerUnavailable` if its jars cannot be downloaded.
    """
    if not SCRIPT.is_file():
        raise UsageError(f"{SCRIPT} is missing: start Apache Kafka from a clone of the repository")
    # The first time this downloads the jars, so its messages go to the terminal.
    download = subprocess.run([str(SCRIPT), "jars"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
    if download.returncode != 0:
        raise BrokerUnavailable("Apache Kafka's jars could not be downloaded; the lines above say why")
    return [str(SCRIPT), "run", "--data", str(data_dir), "--port", str(port), *options]


def _embedded_command(data_dir: Path, port: int) -> list[str]:
    if find_spec("noida_db") is None:
        raise UsageError(
            "the embedded broker is not installed: pip install 'anabranch[demo]', or name a broker with "
            "--bootstrap-servers"
        )
    binary = Path(str(files("noida_db"))) / "noida-db"  # not its Python wrapper, which would leave the server running
    binary.chmod(binary.stat().st_mode | 0o111)
    service = ["--only", "kafka", "--kafka-port", str(port), "--host", "127.0.0.1"]
    return [str(binary), "start", "--data-dir", str(data_dir), *service]


@contextmanager
def admin_client(address: str) -> Iterator[KafkaAdminClient]:
    """An admin client of the node at host:port. Raises `OSError`, at once, if nobody listens, and `KafkaError`."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), timeout=1.0).close()
    with closing(KafkaAdminClient(bootstrap_servers=address, client_id="anabranch-broker")) as client:
        yield client


def _answers(address: str) -> bool:
    try:
        with admin_client(address) as admin:
            admin.list_topics()
        return True
    except (OSError, KafkaError):
        return False
