"""The brokers that the demo, the tests and `anabranch broker` start: they answer, keep their data, and are stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from anabranch.errors import BrokerUnavailable, UsageError
from anabranch.harness.environment.broker import Broker, open_broker, start_broker
from anabranch.harness.environment.local_broker import LocalBroker


def test_a_second_start_serves_the_data_of_the_first(tmp_path: Path) -> None:
    with start_broker(tmp_path) as first:
        _publish(first.bootstrap_servers, b"kept")

    with start_broker(tmp_path) as second:
        assert _read(second.bootstrap_servers) == b"kept"
    second.stop()  # once more: nothing happens


def test_a_given_broker_is_used_and_never_stopped(bootstrap_servers: str, tmp_path: Path) -> None:
    with open_broker(bootstrap_servers, tmp_path) as given:
        assert (given.kind, given.bootstrap_servers, given.pid) == ("given", bootstrap_servers, None)
    assert not list(tmp_path.iterdir())


def test_the_broker_of_these_tests_listens_on_this_machine_alone(broker: Broker) -> None:
    if broker.pid is None:
        pytest.skip("the broker was given, not started here")
    assert _addresses(broker.pid) == {"127.0.0.1"}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_broker_ends_with_the_process_that_started_it(number: signal.Signals, tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert psutil.pid_exists(pid)

    parent.send_signal(number)
    parent.wait(30)

    _wait_until(lambda: not _alive(pid))


def test_a_broker_that_dies_at_once_shows_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "meta.properties").write_text("version=1\nnode.id=7\ncluster.id=somebody-elses\n")

    with pytest.raises(BrokerUnavailable, match=r"died with exit code 1; the end of [^ ]+server\.log:\n"):
        start_broker(tmp_path)


# --- anabranch broker -------------------------------------------------------------------------------------------------


@pytest.fixture
def local_broker(tmp_path: Path) -> Iterator[LocalBroker]:
    broker = LocalBroker(tmp_path / "broker")
    yield broker
    broker.stop()


def test_a_local_broker_outlives_the_process_that_started_it(local_broker: LocalBroker) -> None:
    printed = _command("start", local_broker)
    running = local_broker.running()
    assert running is not None
    assert printed == f"ANABRANCH_BOOTSTRAP_SERVERS={running.bootstrap_servers}\n" == _command("status", local_broker)
    _publish(running.bootstrap_servers, b"kept")
    assert _addresses(running.pid) == {"127.0.0.1"}

    _command("stop", local_broker)
    _wait_until(lambda: not _alive(running.pid))
    assert local_broker.running() is None
    assert not local_broker.stop(), "stopping a broker that does not run is no failure"
    with pytest.raises(subprocess.CalledProcessError, match="exit status 3"):
        _command("status", local_broker)

    assert _read(local_broker.start()) == b"kept"


def test_a_local_broker_is_started_once(local_broker: LocalBroker) -> None:
    address = local_broker.start()
    with pytest.raises(UsageError, match=f"is running already: {address}"):
        local_broker.start()


def test_a_local_broker_does_not_take_the_port_of_another_server(
    local_broker: LocalBroker, bootstrap_servers: str
) -> None:
    taken = int(bootstrap_servers.rpartition(":")[2])
    with pytest.raises(UsageError, match=f"port {taken} of 127.0.0.1 is taken"):
        local_broker.start(taken)
    assert local_broker.running() is None


def test_another_process_with_the_number_of_a_broker_is_not_the_broker(local_broker: LocalBroker) -> None:
    local_broker.folder.mkdir()
    earlier = f'{{"pid": {os.getpid()}, "created_s": 1.0, "bootstrap_servers": "127.0.0.1:9"}}'
    (local_broker.folder / "process.json").write_text(earlier)
    assert local_broker.running() is None
    assert not local_broker.stop()


# --- what the tests do ------------------------------------------------------------------------------------------------


def _command(name: str, broker: LocalBroker) -> str:
    command = [sys.executable, "-m", "anabranch", "broker", name, "--data-dir", str(broker.folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _publish(bootstrap_servers: str, value: bytes) -> None:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap_servers)
    admin.create_topics([NewTopic("kept", 1, 1)])
    admin.wait_for_topics(["kept"])
    admin.close()
    producer = KafkaProducer(bootstrap_servers=bootstrap_servers)
    producer.send("kept", value).get(10)
    producer.close()


def _read(bootstrap_servers: str) -> bytes:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap_servers, consumer_timeout_ms=10_000)
    partition = TopicPartition("kept", 0)
    consumer.assign([partition])
    consumer.seek_to_beginning(partition)
    value: bytes = next(consumer).value
    consumer.close()
    return value


PARENT = """
import signal, sys, time
from pathlib import Path
from anabranch.harness.environment.broker import start_broker
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin without it
with start_broker(Path(sys.argv[1])) as broker:
    print(broker.pid, flush=True)
    time.sleep(60)
"""


def _addresses(pid: int) -> set[str]:
    """Every address that a process listens on; an IPv4 address without the prefix that IPv6 sockets give it."""
    connections = psutil.Process(pid).net_connections("inet")
    listening = (connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN)
    return {address.removeprefix("::ffff:") for address in listening}


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
