"""The collector under load: events per second that are acknowledged, and what they cost."""

from __future__ import annotations

import os
import platform
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from anabranch.harness.bench.event_load import Acknowledged, EventLoad, send
from anabranch.harness.bench.figures.statistics import percentiles, spread, spread_by_name
from anabranch.harness.environment.cluster import start_cluster
from anabranch.harness.environment.processes import ChildProcess, Processes, free_ports
from anabranch.harness.environment.ranker_probe import ProcessProbe
from anabranch.harness.environment.testbed import child_environment, clear, cluster_settings, wait_until
from anabranch.kafka import clients, topics
from anabranch.settings import Settings

SESSION_TIMEOUT_MS = 10_000


@dataclass(frozen=True)
class CollectConfig:
    """How much is measured."""

    repeats: int
    seconds: float
    connections: int
    batch: int
    """Events of a request."""


def run(settings: Settings, config: CollectConfig) -> dict[str, Any]:
    """Full load on one collector, beside the broker and what sends the events, in each repeat."""
    clear(settings.data_dir)
    with start_cluster(1, settings.data_dir / "cluster") as cluster:
        settings = cluster_settings(settings, cluster, SESSION_TIMEOUT_MS)
        with closing(clients.admin(settings)) as admin:
            topics.provision(admin, settings)
        with Processes(child_environment(settings), settings.data_dir / "logs") as processes:
            port, metrics_port = free_ports(2)
            ports = ("--port", str(port), "--metrics-port", str(metrics_port))
            collector = processes.start("collect", *ports)
            wait_until(ProcessProbe(metrics_port).is_ready, "the collector is ready", on_poll=processes.check)
            load = EventLoad(port, config.connections, config.batch, config.seconds)
            send(load)  # not counted: connections to the broker are opened
            rounds = [_measure(collector, load) for _ in range(config.repeats)]
            collector.stop()
    return {
        "what": "events to one collector, each answered once the broker has acknowledged it",
        "machine": {
            "broker": "Apache Kafka, one node, on the same machine",
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "partitions": settings.partitions,
        },
        "plan": asdict(config),
        "events_per_second": spread([acknowledged.events / config.seconds for acknowledged, _ in rounds]),
        "cpu_us_per_event": spread([cpu_us for _, cpu_us in rounds]),
        "latency_ms": spread_by_name([percentiles(acknowledged.latencies_ms) for acknowledged, _ in rounds]),
    }


def _measure(collector: ChildProcess, load: EventLoad) -> tuple[Acknowledged, float]:
    """What was acknowledged, and the collector's CPU time for an event, in microseconds."""
    before_s = collector.cpu_s
    acknowledged = send(load)
    return acknowledged, 1e6 * (collector.cpu_s - before_s) / acknowledged.all_events
