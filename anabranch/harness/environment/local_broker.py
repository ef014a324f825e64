"""A broker for trials, which runs on when the command that started it has ended: `anabranch broker`."""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil

from anabranch.errors import UsageError
from anabranch.harness.environment.broker import STOP_TIMEOUT_S, start_and_wait
from anabranch.harness.environment.kafka_node import KafkaNode, Quorum
from anabranch.harness.environment.processes import free_ports
from anabranch.harness.environment.server import Server

DEFAULT_PORT = 9092
"""The port that every command connects to if it is told no other."""


class BrokerProcess(msgspec.Struct, frozen=True):
    """The process of a broker, as its folder remembers it."""

    pid: int
    created_s: float
    """Seconds since 1970 of the process's start: another process may get the same id later."""
    bootstrap_servers: str


@dataclass(frozen=True)
class LocalBroker:
    """Apache Kafka on one node, with its data in a folder. One command starts it, another stops it."""

    folder: Path

    def start(self, port: int | None = None) -> str:
        """Start it, wait until it answers, and return its bootstrap servers.

        It listens on `port`, or else on `DEFAULT_PORT` if that is free, or else on any free port. Data of an earlier
        start in the same folder is kept. Raises `UsageError` if it runs already or the port is taken, and otherwise as
        `start_broker`.
        """
        running = self.running()
        if running is not None:
            raise UsageError(f"a broker with its data in {self.folder} is running already: {running.bootstrap_servers}")
        if port is not None and not _is_free(port):  # who listens there would answer in its place
            raise UsageError(f"port {port} of 127.0.0.1 is taken: choose another --port")
        chosen = port or (DEFAULT_PORT if _is_free(DEFAULT_PORT) else free_ports(1)[0])
        folder = self.folder.resolve()
        command = KafkaNode(folder, chosen, Quorum.single()).prepare()
        address = f"127.0.0.1:{chosen}"
        server = Server("broker", command, folder / "server.log", death_signal=None, address=address)
        start_and_wait(server)
        assert server.pid is not None
        process = BrokerProcess(server.pid, psutil.Process(server.pid).create_time(), address)
        self._path.write_bytes(msgspec.json.encode(process))
        return address

    def stop(self) -> bool:
        """Stop it and wait for its end; its data stays. Returns whether one was running."""
        running = self.running()
        if running is not None:
            process = psutil.Process(running.pid)
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait()
        self._path.unlink(missing_ok=True)
        return running is not None

    def running(self) -> BrokerProcess | None:
        """Its process, or None if it does not run."""
        with suppress(FileNotFoundError, psutil.NoSuchProcess):
            process = msgspec.json.decode(self._path.read_bytes(), type=BrokerProcess)
            if psutil.Process(process.pid).create_time() == process.created_s:
                return process
        return None

    @property
    def _path(self) -> Path:
        return self.folder / "process.json"


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as the broker does: a port in TIME_WAIT is free
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
