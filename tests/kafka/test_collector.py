"""`anabranch collect` on a real broker: events arrive, and none that was acknowledged is lost when a process dies."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from pathlib import Path

import msgspec
import pytest

from anabranch import messages
from anabranch.harness.environment.broker import STOP_TIMEOUT_S, start_and_wait
from anabranch.harness.environment.kafka_node import KafkaNode, Quorum
from anabranch.harness.environment.processes import free_ports
from anabranch.harness.environment.server import Server
from anabranch.http import key_file
from anabranch.kafka import clients
from anabranch.kafka.topics import Topics, provision
from anabranch.messages import Event
from anabranch.settings import Settings
from tests.kafka.collector_client import ANY_PORT, Client
from tests.kafka.world import PATIENCE_S, Process, Scrape, World, await_true


@pytest.fixture
def world(settings: Settings, topics: Topics) -> World:
    return World(settings)


def views(user: str, count: int, first: int = 0) -> list[Event]:
    return [
        Event(event_id=f"{user}-{number:06d}", user_id=user, type="view", ts=1_500_000_000_000 + number, item_id="i")
        for number in range(first, first + count)
    ]


def published(world: World) -> list[Event]:
    """Every event on the topic, in log order within its partition; each is under its user's key."""
    records = world.records(world.topics.events)
    events = [messages.events.decode(record.value) for record in records]
    assert [record.key.decode() for record in records] == [event.user_id for event in events]
    partitions = {(event.user_id, record.partition) for event, record in zip(events, records, strict=True)}
    assert len(partitions) == len({user for user, _ in partitions}), "all events of a user are in one partition"
    return events


def test_events_arrive_once_and_in_the_order_of_each_user(world: World) -> None:
    users, batches, size = [f"u{number}" for number in range(6)], 20, 25
    with Process(world.settings, "collect", *ANY_PORT) as collector:

        def send_all(user: str) -> int:
            client = Client(collector)
            return sum(client.send(views(user, size, size * number))[1]["taken"] for number in range(batches))

        with ThreadPoolExecutor(len(users)) as threads:
            assert list(threads.map(send_all, users)) == [batches * size] * len(users)
        events = published(world)
        for user in users:
            assert [event for event in events if event.user_id == user] == views(user, batches * size)
        assert len(events) == len(users) * batches * size
        scraped = Scrape.of(collector)
        assert scraped.value("anabranch_collect_events_taken_total") == len(events)
        assert scraped.value("anabranch_collect_requests_total", status="202") == len(users) * batches
        await_true(lambda: Client(collector).status("/readyz") == 200, "readiness")


def test_a_key_lets_in_and_one_that_is_removed_does_not_and_no_log_has_it(world: World, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    world = World(msgspec.structs.replace(world.settings, api_keys_file=path, log_level="DEBUG"))
    with Process(world.settings, "keys", "create", "--name", "shop", "--scope", "events:write") as created:
        assert created.wait() == 0
        text, said = created.log.read_text().splitlines()
    assert said == f"key shop is in {path}; it is shown only now"
    with Process(world.settings, "collect", *ANY_PORT) as collector:
        client = Client(collector, text)
        assert client.send([*views("zebra", 1), {"event_id": "okapi"}])[0] == 202
        assert Client(collector).send(views("zebra", 1))[0] == 401
        key_file.remove(path, "shop")
        await_true(lambda: client.send(views("zebra", 1))[0] == 401, "the end of the key")
        assert collector.terminate() == 0
    assert [word for word in (text, "zebra", "okapi") if word in collector.log.read_text()] == []
    assert len(published(world)) >= 1


@pytest.fixture
def mortal_broker(tmp_path: Path) -> Iterator[Server]:
    """A broker of this test's own, which it may kill and start again with its data."""
    [port] = free_ports(1)
    command = KafkaNode(tmp_path / "broker", port, Quorum.single()).prepare()
    server = Server(name="broker", command=command, log=tmp_path / "broker.log", address=f"127.0.0.1:{port}")
    start_and_wait(server)
    yield server
    server.stop(STOP_TIMEOUT_S)


def test_without_a_broker_nothing_is_taken_and_once_it_is_back_everything_is(
    mortal_broker: Server, tmp_path: Path
) -> None:
    settings = Settings(bootstrap_servers=mortal_broker.address, data_dir=tmp_path, partitions=2)
    with closing(clients.admin(settings)) as admin:
        provision(admin, settings)
    world = World(settings)
    with Process(settings, "collect", *ANY_PORT) as collector:
        client = Client(collector)
        taken = views("u", 10)
        assert client.send(taken)[0] == 202

        mortal_broker.kill()
        for number in range(2):
            started_at_s = time.monotonic()
            status, answer = client.send(views("lost", 10, 10 * number))
            assert (status, "taken" in answer) == (503, False)
            assert time.monotonic() - started_at_s < 30
        await_true(lambda: client.status("/readyz") == 503, "the end of readiness")
        assert client.status("/healthz") == 200

        start_and_wait(mortal_broker)
        retried = views("lost", 20)

        def accepted() -> bool:
            return client.send(retried)[0] == 202

        await_true(accepted, "the broker's return", collector.log)
        await_true(lambda: client.status("/readyz") == 200, "readiness", collector.log)
        assert collector.terminate() == 0
    events = published(world)
    assert [event for event in events if event.user_id == "u"] == taken
    newest = [event for event in events if event.user_id == "lost"][-len(retried) :]
    assert newest == retried, "the request that was acknowledged is there, once, behind what arrived of the others"


@pytest.mark.parametrize("end", [Process.kill, Process.terminate], ids=["killed", "stopped"])
def test_no_acknowledged_event_is_lost_when_the_collector_ends(world: World, end: Callable[[Process], object]) -> None:
    acknowledged: list[Event] = []
    with Process(world.settings, "collect", *ANY_PORT) as collector:

        def send_until_it_ends(client: Client, user: str) -> None:
            for batch in count():
                events = views(user, 10, 10 * batch)
                try:
                    status, _ = client.send(events)
                except (OSError, http.client.HTTPException):
                    return
                if status == 202:
                    acknowledged.extend(events)

        threads = [
            threading.Thread(target=send_until_it_ends, args=(Client(collector), f"u{number}")) for number in range(4)
        ]
        for thread in threads:
            thread.start()
        await_true(lambda: len(acknowledged) > 500, "acknowledged events", collector.log)
        assert end(collector) in (None, 0)
        for thread in threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
    ids = [event.event_id for event in published(world)]
    assert len(set(ids)) == len(ids)
    assert {event.event_id for event in acknowledged} <= set(ids)
