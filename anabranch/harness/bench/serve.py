"""The serving API under load: requests per second, and latency at a steady rate, while a ranker ranks the events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, TypeVar
from urllib.parse import quote

from anabranch.harness.bench.figures.statistics import Figures, percentiles, spread, spread_by_name
from anabranch.harness.bench.fixture import BenchFixture
from anabranch.harness.bench.http_load import Address, full_load, steady_load
from anabranch.harness.environment.processes import free_ports
from anabranch.harness.environment.ranker_probe import ProcessProbe
from anabranch.messages import Event
from producers.pace import Pace

HOST = "127.0.0.1"
WARMUP_EVENTS = 500
Result = TypeVar("Result")


@dataclass(frozen=True)
class ServeConfig:
    """How much is measured."""

    repeats: int
    seconds: float
    """Of each load."""
    connections: int
    """Of the full load."""
    rate: float
    """Requests per second of the steady load."""
    event_rate: float
    """Events per second that the ranker ranks, and the server applies, meanwhile."""


def run(fixture: BenchFixture, config: ServeConfig) -> dict[str, Any]:
    """Full load of recommendations, full load of a probe (what HTTP alone costs), and a steady load, in each repeat."""
    events = fixture.testbed.ahead.events()
    fixture.commit_start()
    fixture.publish_next(events, WARMUP_EVENTS)
    users = sorted({event.user_id for event in fixture.testbed.history.events()})
    paths = [f"/v1/users/{quote(user_id, safe='')}/recommendations" for user_id in users]
    port, metrics_port = free_ports(2)
    address = Address(HOST, port)
    with fixture.rankers():
        ports = ("--port", str(port), "--metrics-port", str(metrics_port))
        server = fixture.testbed.processes.start("serve", *ports)
        fixture.wait_until(ProcessProbe(metrics_port).is_ready, "the server is ready")
        measure = _LoadedServer(fixture, config, events, address, lambda number: paths[number % len(paths)])
        measure.full()  # not counted: it fills caches
        rounds = [measure.round() for _ in range(config.repeats)]
        server.stop()
    return {
        "what": "requests for recommendations to one server, beside a ranker",
        "machine": fixture.machine | {"users": len(users)},
        "plan": asdict(config),
        "requests_per_second": spread([full for full, _, _ in rounds]),
        "probes_per_second": spread([probes for _, probes, _ in rounds]),
        "share_of_probes": spread([full / probes for full, probes, _ in rounds]),
        "latency_ms": spread_by_name([latency for _, _, latency in rounds]),
    }


@dataclass(frozen=True)
class _LoadedServer:
    fixture: BenchFixture
    config: ServeConfig
    events: Iterator[Event]
    address: Address
    path: Callable[[int], str]

    def round(self) -> tuple[float, float, Figures]:
        """Requests per second of recommendations and of probes, and milliseconds at the steady rate."""
        return self.full(), self._beside_events(self._probes()), percentiles(self._beside_events(self._steady()))

    def full(self) -> float:
        """Requests per second at full load."""
        config = self.config
        return self._beside_events(full_load(self.address, self.path, config.connections, config.seconds))

    def _probes(self) -> Coroutine[Any, Any, float]:
        return full_load(self.address, lambda number: "/healthz", self.config.connections, self.config.seconds)

    def _steady(self) -> Coroutine[Any, Any, Any]:
        return steady_load(self.address, self.path, self.config.rate, self.config.seconds)

    def _beside_events(self, load: Coroutine[Any, Any, Result]) -> Result:
        """What a load measures while events come at their rate."""
        with ThreadPoolExecutor(1) as pool:
            measured = pool.submit(asyncio.run, load)
            count = int(self.config.event_rate * self.config.seconds)
            self.fixture.publish_next(self.events, count, Pace(events_per_second=self.config.event_rate))
            return measured.result()
