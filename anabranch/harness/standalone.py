"""Everything on one machine, for trials and small shops: the broker, and every process of Anabranch."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import msgspec
from rich.console import Console

from anabranch.harness.environment.local_broker import LocalBroker
from anabranch.harness.environment.processes import Processes, free_ports
from anabranch.harness.environment.ranker_probe import RankerProbe
from anabranch.harness.environment.testbed import child_environment
from anabranch.kafka import clients, topics
from anabranch.settings import Settings
from anabranch.settings_loader import SECRETS

POLL_S = 0.5
NEXT_STEPS = (
    "Publish items with `anabranch catalogue FILE` and events with `anabranch replay FILE`, in another terminal. "
    "Ranking begins when the items are indexed. Ctrl-C stops everything."
)
SERVICES = ("index", "neighbours", "rank", "reshare")
OWN = ("metrics_port", "instance", "client_id", "neighbours_shard", "neighbours_shards")
"""Settings of one process, which the children do not share: there is one neighbours job."""


@dataclass(frozen=True)
class StandaloneOptions:
    """The options of the command line."""

    bootstrap_servers: str | None
    """None: start a broker, or use the one that `anabranch broker start` left running in the same folder."""
    every_hours: float
    """Hours from the start of a run of the retraining job to that of the next."""


def run(options: StandaloneOptions, settings: Settings, console: Console, stop: threading.Event) -> None:
    """Run until `stop` is set. Raises `ProcessFailed`, with the end of its log, if a process ends by itself."""
    with _broker(options.bootstrap_servers, settings) as bootstrap_servers:
        settings = msgspec.structs.replace(settings, bootstrap_servers=bootstrap_servers, live_neighbours=True)
        console.print(f"Kafka at {bootstrap_servers}", highlight=False)
        with closing(clients.admin(settings)) as admin:
            topics.provision(admin, settings)
        with Processes(child_environment(settings, _shared_settings()), settings.data_dir / "logs") as processes:
            ranker = _start_services(options, settings, processes, console)
            console.print(NEXT_STEPS, highlight=False, soft_wrap=True)
            release = None
            while not stop.wait(POLL_S):
                processes.check()
                if ranker.live_release() != release and ranker.ranks(settings.partitions):
                    release = ranker.live_release()
                    console.print(f"Events are ranked by release {release} now.", highlight=False)


@contextmanager
def _broker(bootstrap_servers: str | None, settings: Settings) -> Iterator[str]:
    """The given broker; or one with its data in `data_dir`, which is stopped at the end if it was started here."""
    local = LocalBroker(settings.data_dir / "broker")
    running = local.running()
    if bootstrap_servers is not None or running is not None:
        yield bootstrap_servers or running.bootstrap_servers  # type: ignore[union-attr]
        return
    try:
        yield local.start()
    finally:
        local.stop()


def _start_services(
    options: StandaloneOptions, settings: Settings, processes: Processes, console: Console
) -> RankerProbe:
    """Start every service with a port for its metrics. Returns the probe of the ranker's."""
    ports = dict(zip(SERVICES, free_ports(len(SERVICES)), strict=True))
    more = {"reshare": ("--every", str(options.every_hours))}
    for name, port in ports.items():
        child = processes.start(name, "--metrics-port", str(port), *more.get(name, ()))
        metrics = f"http://{settings.metrics_host}:{port}/metrics"
        console.print(f"anabranch {name}: log in {child.log}, metrics at {metrics}", highlight=False, soft_wrap=True)
    return RankerProbe(ports["rank"])


def _shared_settings() -> list[str]:
    """The names of the settings that the children get; secrets reach them through the environment, if at all."""
    return [name for name in Settings.__struct_fields__ if name not in SECRETS and name not in OWN]
