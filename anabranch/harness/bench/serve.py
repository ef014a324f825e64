"""The serving API under load: requests per second, and latency at a steady rate, while a ranker ranks the events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple
from urllib.parse import quote

from anabranch.harness.bench.figures.statistics import Figures, percentiles, spread, spread_by_name
from anabranch.harness.bench.fixture import BenchFixture
from anabranch.harness.bench.http_load import Load, measure_load
from anabranch.harness.environment.processes import ChildProcess, free_ports
from anabranch.harness.environment.ranker_probe import ProcessProbe
from anabranch.messages import Event
from producers.pace import Pace

HOST = "127.0.0.1"
WARMUP_EVENTS = 500
PUBLISHED_S = 0.5
"""So long events are published at a time."""
STEADY_CONNECTIONS = 64
PROBE = ("/healthz",)


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
    with fixture.rankers():
        ports = ("--port", str(port), "--metrics-port", str(metrics_port))
        server = fixture.testbed.processes.start("serve", *ports)
        fixture.wait_until(ProcessProbe(metrics_port).is_ready, "the server is ready")
        measure = _LoadedServer(fixture, config, events, server, port)
        measure.full(paths)  # not counted: it fills caches
        rounds = [Round(measure.full(paths), measure.full(PROBE), measure.steady(paths)) for _ in range(config.repeats)]
        server.stop()
    return {
        "what": "requests for recommendations to one server, beside a ranker",
        "machine": fixture.machine | {"users": len(users)},
        "plan": asdict(config),
        "requests_per_second": spread([of_round.full.per_second for of_round in rounds]),
        "probes_per_second": spread([of_round.probes.per_second for of_round in rounds]),
        "share_of_probes": spread([of_round.full.per_second / of_round.probes.per_second for of_round in rounds]),
        "latency_ms": spread_by_name([percentiles(of_round.steady.latencies_ms) for of_round in rounds]),
        "server_cpu_ms_per_request": spread_by_name([of_round.cpu_ms for of_round in rounds]),
    }


class LoadOnServer(NamedTuple):
    """What a load measured, and what it cost the server."""

    per_second: float
    latencies_ms: Sequence[float]
    cpu_ms: float
    """CPU time of the server per request, with what the events of that time cost it."""


class Round(NamedTuple):
    """The loads of one repeat."""

    full: LoadOnServer
    probes: LoadOnServer
    steady: LoadOnServer

    @property
    def cpu_ms(self) -> Figures:
        """Per request, by load."""
        return {name: load.cpu_ms for name, load in self._asdict().items()}


@dataclass(frozen=True)
class _LoadedServer:
    fixture: BenchFixture
    config: ServeConfig
    events: Iterator[Event]
    server: ChildProcess
    port: int

    def full(self, paths: Sequence[str]) -> LoadOnServer:
        return self._under(self._load(paths, self.config.connections))

    def steady(self, paths: Sequence[str]) -> LoadOnServer:
        return self._under(self._load(paths, STEADY_CONNECTIONS, self.config.rate))

    def _load(self, paths: Sequence[str], connections: int, per_second: float | None = None) -> Load:
        seconds = self.config.seconds
        return Load(
            host=HOST, port=self.port, paths=paths, seconds=seconds, connections=connections, per_second=per_second
        )

    def _under(self, load: Load) -> LoadOnServer:
        """What a load measures while events come at their rate."""
        rate, before_s = self.config.event_rate, self.server.cpu_s

        def publish() -> None:
            self.fixture.publish_next(self.events, int(rate * PUBLISHED_S), Pace(events_per_second=rate))

        figures = measure_load(load, publish)
        cpu_s = self.server.cpu_s - before_s
        return LoadOnServer(figures.per_second, figures.latencies_ms, 1000 * cpu_s / figures.answered)
