"""A generator of events over HTTP: clients that send batches to a collector, each once the one before is answered."""

from __future__ import annotations

import http.client
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from itertools import count
from typing import NamedTuple

import msgspec

from anabranch.errors import AnabranchError
from anabranch.messages import Event

WARMUP_S = 1.0
TIMEOUT_S = 60.0
USERS = 10_000
ITEMS = 1_000
HEADERS = {"Content-Type": "application/json"}


class NotTaken(AnabranchError):
    """A request was answered with another status than 202."""


@dataclass(frozen=True)
class EventLoad:
    """Who sends how much."""

    port: int
    connections: int
    batch: int
    """Events of a request."""
    seconds: float


@dataclass(frozen=True)
class Acknowledged:
    """What a load measured."""

    events: int
    """Events that were answered with 202, without those of the first second."""
    all_events: int
    """With those of the first second, and the last ones of each client."""
    latencies_ms: Sequence[float]
    """Of the requests of `events`, from the begin of each to its answer."""


class _Client(NamedTuple):
    requests: int
    latencies_ms: list[float]
    """Of those that were answered in time."""


def send(load: EventLoad) -> Acknowledged:
    """Send for so many seconds behind the first one. Raises `NotTaken` for any other answer than 202."""
    counted_from = time.perf_counter() + WARMUP_S
    with ThreadPoolExecutor(load.connections) as clients:
        sent = [clients.submit(_client, load, client, counted_from) for client in range(load.connections)]
        of_clients = [future.result() for future in sent]
    latencies_ms = [latency for client in of_clients for latency in client.latencies_ms]
    requests = sum(client.requests for client in of_clients)
    return Acknowledged(len(latencies_ms) * load.batch, requests * load.batch, latencies_ms)


def _client(load: EventLoad, client: int, counted_from: float) -> _Client:
    connection = http.client.HTTPConnection("127.0.0.1", load.port, timeout=TIMEOUT_S)
    latencies_ms: list[float] = []
    for number in count():
        body = msgspec.json.encode(_events(f"{client}-{number}", number, load.batch))
        begin = time.perf_counter()
        connection.request("POST", "/v1/events", body, HEADERS)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != HTTPStatus.ACCEPTED:
            raise NotTaken(f"a request of {load.batch} events: {answer.status} {content.decode(errors='replace')}")
        end = time.perf_counter()
        if end >= counted_from + load.seconds:
            break
        if end >= counted_from:
            latencies_ms.append(1000 * (end - begin))
    connection.close()
    return _Client(number + 1, latencies_ms)


def _events(name: str, number: int, size: int) -> list[Event]:
    """Of many users, so that they go to all partitions."""
    now_ms = time.time_ns() // 1_000_000
    return [
        Event(
            event_id=f"{name}-{index}",
            user_id=f"user-{(number * size + index) % USERS}",
            session_id=f"session-{number}",
            type="view",
            ts=now_ms,
            item_id=f"item-{index % ITEMS}",
        )
        for index in range(size)
    ]
