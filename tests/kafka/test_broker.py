"""The brokers that the demo and the tests start: they answer, keep their data, and go when they should."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from anabranch.errors import BrokerUnavailable, UsageError
from anabranch.harness.environment.broker import SCRIPT, Broker, choose, start_broker
from anabranch.kafka import clients
from anabranch.settings import Settings
from tests.kafka.marks import needs_kafka

Startable = Literal["kafka", "embedded"]
each_kind = pytest.mark.parametrize("kind", ["embedded", pytest.param("kafka", marks=needs_kafka)])


@each_kind
def test_a_second_start_serves_the_data_of_the_first(kind: Startable, tmp_path: Path) -> None:
    with start_broker(kind, tmp_path) as first:
        _publish(first.bootstrap_servers, b"kept")

    with start_broker(kind, tmp_path) as second:
        assert _read(second.bootstrap_servers) == b"kept"


def test_the_broker_of_these_tests_listens_on_this_machine_alone(broker: Broker) -> None:
    if broker.pid is None:
        pytest.skip("the broker was given, not started here")
    assert _addresses(broker.pid) == {"127.0.0.1"}


def test_the_embedded_broker_listens_on_this_machine_alone(tmp_path: Path) -> None:
    with start_broker("embedded", tmp_path) as broker:
        assert broker.pid is not None
        assert _addresses(broker.pid) == {"127.0.0.1"}


@each_kind
def test_it_goes_when_its_parent_is_killed(kind: Startable, tmp_path: Path) -> None:
    parent = _parent_of_a_broker(kind, tmp_path)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert _alive(pid)

    parent.send_signal(signal.SIGKILL)
    parent.wait()

    _wait_until(lambda: not _alive(pid))


def test_more_than_kafka_python_takes_in_one_frame_is_read_from_the_embedded_broker(tmp_path: Path) -> None:
    """It answers a fetch with all there is, and frames over 100 MB would be refused without an error."""
    value, count = os.urandom(1_000_000), 110
    with start_broker("embedded", tmp_path) as broker:
        settings = Settings(bootstrap_servers=broker.bootstrap_servers, compression="none")
        _create(broker.bootstrap_servers, "large")
        producer = clients.producer(settings)
        for _ in range(count):
            producer.send("large", value)
        producer.close()

        assert sum(1 for _ in clients.read_to_end(settings, ["large"])) == count


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_goes_when_its_parent_is_told_to_stop(number: signal.Signals, tmp_path: Path) -> None:
    parent = _parent_of_a_broker("embedded", tmp_path)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())

    parent.send_signal(number)
    parent.wait(30)

    _wait_until(lambda: not _alive(pid))


def test_stopping_twice_is_stopping_once(tmp_path: Path) -> None:
    broker = start_broker("embedded", tmp_path)

    broker.stop()
    broker.stop()


@needs_kafka
def test_a_broker_that_dies_at_once_shows_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "meta.properties").write_text("version=1\nnode.id=7\ncluster.id=somebody-elses\n")

    with pytest.raises(BrokerUnavailable, match=r"died with exit code 1; the end of [^ ]+server\.log:\n"):
        start_broker("kafka", tmp_path)


@needs_kafka
def test_the_script_starts_stops_and_tells_its_status(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    assert _script("status", data).returncode == 3

    started = _script("start", data)
    try:
        assert started.returncode == 0, started.stderr
        assert _script("status", data).stdout == started.stdout
        again = _script("start", data)
        assert again.returncode == 1
        assert "already running" in again.stderr
        _publish(_address(started.stdout), b"kept")
    finally:
        stopped = _script("stop", data)

    assert stopped.returncode == 0
    assert _script("status", data).returncode == 3
    assert _script("stop", data).returncode == 0, "stopping what is not running is no failure"


@needs_kafka
def test_the_script_shows_why_a_broker_did_not_start(tmp_path: Path, bootstrap_servers: str) -> None:
    taken = bootstrap_servers.rpartition(":")[2]

    failed = _script("start", str(tmp_path), "--port", taken)

    assert failed.returncode == 1
    assert "the end of" in failed.stderr
    assert _script("status", str(tmp_path)).returncode == 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["start"], "--data DIR is missing"), (["restart"], "unknown command"), (["start", "--dta", "x"], "--dta")],
)
def test_the_script_names_what_was_wrong_with_its_arguments(arguments: list[str], says: str) -> None:
    failed = subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, check=False)

    assert failed.returncode == 1
    assert says in failed.stderr


@needs_kafka
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--quorum", "1@127.0.0.1:20001,2@127.0.0.1:20002"], "--quorum needs --cluster-id"),
        (["--quorum", "11@127.0.0.1:20001", "--cluster-id", "x"], "node 1 has no ID@127.0.0.1:PORT in the quorum"),
    ],
)
def test_the_script_names_what_was_wrong_with_a_quorum(options: list[str], says: str, tmp_path: Path) -> None:
    failed = _script("run", str(tmp_path), *options)

    assert failed.returncode == 1
    assert says in failed.stderr


def test_a_given_broker_is_chosen_first() -> None:
    assert choose("127.0.0.1:9092", want_kafka=True) == "given"
    assert choose(None, want_kafka=False) == "embedded"


def test_apache_kafka_asked_for_without_java_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(UsageError, match="java and mvn"):
        choose(None, want_kafka=True)


# --- what the tests do ------------------------------------------------------------------------------------------------


def _publish(bootstrap_servers: str, value: bytes) -> None:
    _create(bootstrap_servers, "kept")
    producer = KafkaProducer(bootstrap_servers=bootstrap_servers)
    producer.send("kept", value).get(10)
    producer.close()


def _create(bootstrap_servers: str, topic: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap_servers)
    admin.create_topics([NewTopic(topic, 1, 1)])
    admin.wait_for_topics([topic])
    admin.close()


def _read(bootstrap_servers: str) -> bytes:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap_servers, consumer_timeout_ms=10_000)
    partition = TopicPartition("kept", 0)
    consumer.assign([partition])
    consumer.seek_to_beginning(partition)
    value: bytes = next(consumer).value
    consumer.close()
    return value


def _script(command: str, data: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPT, command, "--data", data, *options], capture_output=True, text=True, check=False)


def _address(stdout: str) -> str:
    return stdout.strip().removeprefix("bootstrap.servers=")


PARENT = """
import signal, sys, time
from pathlib import Path
from anabranch.harness.environment.broker import start_broker
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin without it
with start_broker(sys.argv[1], Path(sys.argv[2])) as broker:
    print(broker.pid, flush=True)
    time.sleep(60)
"""


def _parent_of_a_broker(kind: str, data_dir: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", PARENT, kind, str(data_dir)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )


def _addresses(pid: int) -> set[str]:
    """Every address a process listens on."""
    inodes = {_socket(link) for link in Path(f"/proc/{pid}/fd").iterdir()}
    listening = "0A"
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == listening and columns[9] in inodes:
                found.add(_dotted(columns[1].partition(":")[0]))
    return found


def _socket(link: Path) -> str:
    try:
        return os.readlink(link).removeprefix("socket:[").removesuffix("]")
    except FileNotFoundError:
        return ""


def _dotted(address: str) -> str:
    """An address of /proc/net as a.b.c.d; one of IPv6 must be an IPv4 address in disguise, or stays as it is."""
    mapped = "0000000000000000FFFF0000"
    digits = address.removeprefix(mapped)
    return ".".join(str(byte) for byte in reversed(bytes.fromhex(digits))) if len(digits) == 8 else address


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
