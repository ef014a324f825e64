"""A broker of one's own for the demo and the tests: started as a child process, stopped with its parent.

The child dies with its parent whatever happens: `with` stops it, also on Ctrl-C, which does not reach it (it has its
own session); and on Linux the kernel sends it SIGTERM when the thread that started it ends, even by kill -9. So start
it from the main thread.
"""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Literal

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from anabranch.errors import BrokerUnavailable, UsageError

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
SCRIPT = Path(__file__).resolve().parent.parent / "deploy" / "kafka" / "broker"
NEEDED = ("java", "mvn")
START_SECONDS = 60.0
STOP_SECONDS = 30.0
"""The embedded broker saves everything it holds when it stops: 18 s were measured for 1.4 GB."""
LOG_LINES = 20


@dataclass
class Broker:
    """A broker that answers at `bootstrap_servers`; as a context manager it is stopped at the end."""

    kind: Kind
    bootstrap_servers: str
    log: Path | None = None
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def promise(self) -> str:
        """One sentence for the banner: what this broker does not promise."""
        return PROMISES[self.kind]

    @property
    def pid(self) -> int | None:
        """The process, which leads a group of its own; None if the broker was given, or has stopped."""
        return None if self._process is None else self._process.pid

    def stop(self) -> None:
        """Stop the process and wait until it is gone; a given broker is left alone. Safe to call again."""
        if self._process is not None:
            _stop(self._process)
            self._process = None

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
    address = f"127.0.0.1:{_free_port()}"
    command = _kafka(data_dir, address) if kind == "kafka" else _embedded(data_dir, address)
    log = data_dir / "server.log"
    process = _spawn(command, log)
    try:
        _await_answer(process, address, log)
    except BaseException:
        _stop(process)
        raise
    return Broker(kind, address, log, process)


def _kafka(data_dir: Path, address: str) -> list[str]:
    if not SCRIPT.is_file():
        raise UsageError(f"{SCRIPT} is missing: start Apache Kafka from a clone of the repository")
    # Its jars first, and its messages to the terminal: the first time this downloads.
    fetched = subprocess.run([str(SCRIPT), "jars"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
    if fetched.returncode != 0:
        raise BrokerUnavailable("Apache Kafka's jars could not be had; the lines above say why")
    return [str(SCRIPT), "run", "--data", str(data_dir), "--port", address.rpartition(":")[2]]


def _embedded(data_dir: Path, address: str) -> list[str]:
    if find_spec("noida_db") is None:
        raise UsageError(
            "the embedded broker is not installed: pip install 'anabranch[demo]', or name a broker with "
            "--bootstrap-servers"
        )
    binary = Path(str(files("noida_db"))) / "noida-db"  # not its Python wrapper, whose child would outlive it
    binary.chmod(binary.stat().st_mode | 0o111)
    host, _, port = address.rpartition(":")
    service = ["--only", "kafka", "--kafka-port", port, "--host", host]
    return [str(binary), "start", "--data-dir", str(data_dir), *service]


def _free_port() -> int:
    """A port nobody listens on, below the range from which the kernel draws outgoing ports."""
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as candidate, suppress(OSError):
            candidate.bind(("127.0.0.1", port))
            return port
    raise BrokerUnavailable("found no free port on 127.0.0.1")


def _spawn(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the parent, which stops its broker last
            preexec_fn=_die_with_parent(),
        )


def _die_with_parent() -> Callable[[], None] | None:
    """What the child does before it becomes the broker, on Linux: ask for SIGTERM when its parent dies."""
    if sys.platform != "linux":
        return None
    prctl, parent, set_death_signal = ctypes.CDLL(None, use_errno=True).prctl, os.getpid(), 1

    def ask() -> None:
        prctl(set_death_signal, signal.SIGTERM)
        if os.getppid() != parent:  # it died in between
            os._exit(1)

    return ask


def _await_answer(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _answers(address):
        if process.poll() is not None:
            raise BrokerUnavailable(f"the broker died with exit code {process.returncode}; {_tail(log)}")
        if time.monotonic() > deadline:
            raise BrokerUnavailable(f"the broker does not answer after {START_SECONDS:.0f} s; {_tail(log)}")
        time.sleep(0.1)


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1.0).close()
        admin = KafkaAdminClient(bootstrap_servers=address, client_id="anabranch-broker")
    except (OSError, KafkaError):
        return False
    try:
        admin.list_topics()
        return True
    except KafkaError:
        return False
    finally:
        admin.close()


def _tail(log: Path) -> str:
    lines = log.read_text("utf-8", errors="replace").splitlines()[-LOG_LINES:]
    return "\n".join([f"the end of {log}:", *lines])


def _stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the whole group, for the script's own children too; SIGKILL if that does not help."""
    for number, patience in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            return
