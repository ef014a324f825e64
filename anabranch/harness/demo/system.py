"""The system that a demo runs: its topics, and its processes as children."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from rich.console import Console

from anabranch.harness.demo.visitor import Services
from anabranch.harness.environment.processes import ChildProcess, Processes, free_ports
from anabranch.harness.environment.ranker_probe import ProcessProbe, RankerProbe
from anabranch.harness.environment.testbed import wait_until
from anabranch.kafka import clients, topics
from anabranch.kafka.offsets import Offsets, ends, lag
from anabranch.kafka.release_topic import read_release_notices
from anabranch.kafka.topics import Topics
from anabranch.messages import Event, Item, ReleaseNotice
from anabranch.progress_bar import Advance, bar
from anabranch.settings import Settings
from producers import catalogue
from producers.pace import FULL_SPEED, Pace
from producers.replay import replay

POLL_S = 0.1
EXPLAINED = "anabranch: "
"""How a command begins the line that says why it could not do what it was asked for; a defect ends in a traceback."""


@dataclass(frozen=True)
class System:
    """Acts on topics and processes, and shows progress."""

    settings: Settings
    processes: Processes
    ranker: RankerProbe
    neighbours: ProcessProbe
    console: Console
    refused: list[ChildProcess] = field(default_factory=list)
    """Jobs that ended with an error because their data did not suffice."""

    def check(self) -> None:
        """Raise `ProcessFailed` if a process has failed."""
        for child in self.processes.children:
            if child not in self.refused:
                child.check()

    def provision_topics(self) -> int:
        """Create the topics; returns how many."""
        with closing(clients.admin(self.settings)) as admin:
            return len(topics.provision(admin, self.settings))

    def publish_items(self, items: Sequence[Item]) -> None:
        """Publish the catalogue."""
        with (
            closing(clients.producer(self.settings)) as producer,
            bar("Catalogue", len(items), self.console) as advance,
        ):
            catalogue.publish(items, producer, Topics(self.settings).items, advance)

    def publish(self, events: Iterable[Event], pace: Pace = FULL_SPEED, advance: Advance = lambda n: None) -> None:
        """Publish events."""
        with closing(clients.producer(self.settings)) as producer:
            replay(events, producer, Topics(self.settings).events, pace, advance)

    def start_reshare(self, *options: str, on_terminal: bool = False) -> ChildProcess:
        """Start one run of the retraining job."""
        return self.processes.start("reshare", "--once", *options, on_terminal=on_terminal)

    def wait_for(self, job: ChildProcess) -> str | None:
        """Wait for a run of the retraining job. Returns why it made nothing of its data, None if it did.

        Raises `ProcessFailed` on a defect.
        """
        while job.alive:
            time.sleep(POLL_S)
        reasons = [line.removeprefix(EXPLAINED) for line in job.log_lines() if line.startswith(EXPLAINED)]
        if job.exit_code == 0 or not reasons:
            job.check()
            return None
        self.refused.append(job)
        return reasons[-1]

    def start_serving(self) -> None:
        """Start the indexer, the neighbours job and the ranker, and wait until both count and rank every event."""
        self.processes.start("index")
        self.processes.start("neighbours", "--metrics-port", str(self.neighbours.port))
        self.processes.start("rank", "--start", "latest", "--metrics-port", str(self.ranker.port))
        with bar("Embed the catalogue, load the release", None, self.console):
            self._wait_until(lambda: self.ranker.ranks(self.settings.partitions), "the ranker ranks")
            self._wait_until(self.neighbours.is_ready, "the neighbours job counts co-visits")

    def start_services(self) -> Services:
        """Start the collector and the serving API, and wait until both do their work."""
        services, probes = Services(*free_ports(2)), [ProcessProbe(port) for port in free_ports(2)]
        for name, port, probe in zip(("collect", "serve"), (services.collect, services.serve), probes, strict=True):
            self.processes.start(name, "--port", str(port), "--metrics-port", str(probe.port))
        with bar("Start `collect` and `serve`", None, self.console):
            self._wait_until(lambda: all(probe.is_ready() for probe in probes), "both services are ready")
        return services

    def wait_until_swapped(self) -> None:
        """Wait until the ranker ranks with the live release."""
        live = self.live_release()
        self._wait_until(lambda: self.ranker.live_release() == live, f"the ranker swaps {live} in")

    def wait_until_ranked(self, first_offsets: Offsets, label: str) -> int:
        """Wait until every event from `first_offsets` on is ranked. Returns their number."""
        total = sum(self.end_offsets().values()) - sum(first_offsets.values())
        with bar(label, total, self.console) as advance:
            remaining = total
            while remaining:
                self.check()
                time.sleep(2 * POLL_S)
                not_ranked = min(remaining, lag(self.settings))
                advance(remaining - not_ranked)
                remaining = not_ranked
        return total

    def end_offsets(self) -> Offsets:
        """Where `events` ends now."""
        return ends(self.settings, Topics(self.settings).events)

    def notices(self) -> Mapping[str, ReleaseNotice]:
        """The newest notice of every release."""
        return read_release_notices(self.settings).newest

    def live_release(self) -> str | None:
        """The release that is announced live."""
        live = read_release_notices(self.settings).live
        return None if live is None else live.release

    def _wait_until(self, condition: Callable[[], bool], description: str) -> None:
        wait_until(condition, f"{description}; logs in {self.processes.logs}", on_poll=self.check)
