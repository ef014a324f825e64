"""A broker of one's own for the demo and the tests: started as a child process, stopped with its parent.

`anabranch.harness.environment.cluster` has several that stand in for each other.
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
from anabranch.harness.environment.server import Server, free_ports

Kind = Literal["given", "kafka", "embedded"]

PROMISES: Mapping[Kind, str] = {
    "given": "what it promises is yours to know: replication, retention and access are as you set them up",
    "kafka": "Apache Kafka on a single node without replication: it does not promise to outlive its disk",
    "embedded": (
        "noida-db, an embedded stand-in for Kafka, for looking only: it keeps everything in memory and loses what it "
        "had not saved when it is killed, never gives a killed ranker's partitions to another, does not fence one that "
        "was replaced, and ignores retention"
    ),
}
SCRIPT = Path(__file__).resolve().parents[3] / "deploy" / "kafka" / "broker"
NEEDED = ("java", "mvn")
START_SECONDS = 60.0
STOP_SECONDS = 30.0
"""The embedded broker saves everything it holds when it stops: 18 s were measured for 1.4 GB."""


@dataclass
class Broker:
    """A broker that answers at `bootstrap_servers`; as a context manager it is stopped at the end."""

    kind: Kind
    bootstrap_servers: str
    _server: Server | None = field(default=None, repr=False)

    @property
    def promise(self) -> str:
        """One sentence for the banner: what this broker does not promise."""
        return PROMISES[self.kind]

    @property
    def pid(self) -> int | None:
        """The process, which leads a group of its own; None if the broker was given, or has stopped."""
        return None if self._server is None else self._server.pid

    def stop(self) -> None:
        """Stop the process and wait until it is gone; a given broker is left alone. Safe to call again."""
        if self._server is not None:
            self._server.stop(STOP_SECONDS)

    def __enter__(self) -> Broker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def choose(bootstrap_servers: str | None, want_kafka: bool) -> Kind:
    """Which broker to use: the given one, else Apache Kafka if asked for, else the embedded one.

    Raises `UsageError` if Apache Kafka is asked for and something it needs is missing.
    """
    if bootstrap_servers is not None:
        return "given"
    if not want_kafka:
        return "embedded"
    missing = missing_for_kafka()
    if missing:
        raise UsageError(f"Apache Kafka needs {' and '.join(missing)}: install it, or take the embedded broker instead")
    return "kafka"


def missing_for_kafka() -> list[str]:
    """What Apache Kafka from `deploy/kafka` needs and this machine lacks; empty: it can be started."""
    missing = [command for command in NEEDED if shutil.which(command) is None]
    return missing if SCRIPT.is_file() else [*missing, "a clone of the repository (deploy/kafka/broker)"]


def open_broker(bootstrap_servers: str | None, want_kafka: bool, data_dir: Path) -> Broker:
    """The broker that `choose` chooses, answering."""
    kind = choose(bootstrap_servers, want_kafka)
    if bootstrap_servers is not None:
        return Broker(kind, bootstrap_servers)
    return start_broker("kafka" if kind == "kafka" else "embedded", data_dir)


def start_broker(kind: Literal["kafka", "embedded"], data_dir: Path) -> Broker:
    """Start a broker on a free port of 127.0.0.1, its data and log in `data_dir`, and wait until it answers.

    Data already in the folder is served again. Raises `BrokerUnavailable`, with the end of the log, if it does not
    answer, and `UsageError` if it is not installed.
    """
    data_dir = data_dir.resolve()
    data_dir.mkdir(parents=True, exist_ok=True)
    [port] = free_ports(1)
    command = kafka_command(data_dir, port) if kind == "kafka" else _embedded_command(data_dir, port)
    server = Server(command, f"127.0.0.1:{port}", data_dir / "server.log")
    try:
        server.start()
        server.await_answer(_answers, START_SECONDS)
    except BaseException:
        server.stop(STOP_SECONDS)
        raise
    return Broker(kind, server.address, server)


def kafka_command(data_dir: Path, port: int, *options: str) -> list[str]:
    """What runs Apache Kafka in the foreground; `options` are the script's own.

    Raises `UsageError` outside a clone, and `BrokerUnavailable` where its jars cannot be had.
    """
    if not SCRIPT.is_file():
        raise UsageError(f"{SCRIPT} is missing: start Apache Kafka from a clone of the repository")
    # Its jars first, and its messages to the terminal: the first time this downloads.
    fetched = subprocess.run([str(SCRIPT), "jars"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
    if fetched.returncode != 0:
        raise BrokerUnavailable("Apache Kafka's jars could not be had; the lines above say why")
    return [str(SCRIPT), "run", "--data", str(data_dir), "--port", str(port), *options]


def _embedded_command(data_dir: Path, port: int) -> list[str]:
    if find_spec("noida_db") is None:
        raise UsageError(
            "the embedded broker is not installed: pip install 'anabranch[demo]', or name a broker with "
            "--bootstrap-servers"
        )
    binary = Path(str(files("noida_db"))) / "noida-db"  # not its Python wrapper, whose child would outlive it
    binary.chmod(binary.stat().st_mode | 0o111)
    service = ["--only", "kafka", "--kafka-port", str(port), "--host", "127.0.0.1"]
    return [str(binary), "start", "--data-dir", str(data_dir), *service]


@contextmanager
def admin_client(address: str) -> Iterator[KafkaAdminClient]:
    """An admin client of the node at an address. Raises `OSError`, at once, where nobody listens, and `KafkaError`."""
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
