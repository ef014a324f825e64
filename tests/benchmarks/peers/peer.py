"""The peers: what each needs, and its process on a fixture."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import msgspec
from kafka import TopicPartition
from kafka.admin import NewTopic
from kafka.structs import OffsetAndMetadata

from anabranch.harness.bench.figures.statistics import Rate
from anabranch.harness.bench.fixture import BenchFixture
from anabranch.harness.bench.noop_baseline import APPEND_TIME
from anabranch.harness.environment.processes import ChildProcess, ProcessFailed
from anabranch.kafka import clients
from anabranch.kafka.offsets import Offsets, ends
from tests.benchmarks.peers.work import Update, Work

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / ".venv-peers/bin/python"
"""The virtual environment of peers with conflicting dependencies: `make peers` creates it."""
PACKAGE = "tests.benchmarks.peers"


@dataclass(frozen=True)
class Peer:
    """One way of a module of this package, and the third-party package that the module uses."""

    name: str
    module: str
    way: str
    needs: str
    python: Path

    def missing(self) -> str | None:
        """Why it cannot run; None where it can."""
        if not self.python.exists():
            return f"{self.python} does not exist: `make peers` creates it"
        check = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({self.needs!r}) is None)"
        if subprocess.run([self.python, "-c", check], check=False).returncode:
            return f"{self.python} has no {self.needs}: `make peers` installs it"
        return None


STREAMS = (
    Peer("quix-streams", "quix", "store", "quixstreams", PYTHON),
    Peer("quix-streams, users in memory", "quix", "memory", "quixstreams", PYTHON),
    Peer("transformer over the history", "transformer", "torch", "torch", Path(sys.executable)),
)
"""Rank after every event."""
UPDATERS = (
    Peer("implicit, refitted", "updaters", "refit", "implicit", PYTHON),
    Peer("implicit, users folded in", "updaters", "fold in", "implicit", PYTHON),
    Peer("rtrec", "updaters", "slim", "rtrec", PYTHON),
)
"""Rank after every batch."""


class Peers:
    """Runs peers on a fixture, each with its own topic, and with a new consumer group for each run."""

    def __init__(self, fixture: BenchFixture, peers: Iterable[Peer]) -> None:
        self._fixture = fixture
        self._runs = count()
        self._topics = {
            peer: f"{fixture.testbed.topics.rankings}-{peer.module}-{number}" for number, peer in enumerate(peers)
        }
        partitions = fixture.settings.partitions
        topics = [NewTopic(name, partitions, 1, topic_configs=APPEND_TIME) for name in self._topics.values()]
        with closing(clients.admin(fixture.settings)) as admin:
            admin.create_topics(topics)

    def rate(self, peer: Peer, first_offsets: Offsets, event_count: int) -> Rate:
        """How fast it answers events from these offsets on. Raises `ProcessFailed` if it leaves some out."""
        settings, topic = self._fixture.settings, self._topics[peer]
        first_answers = ends(settings, topic)
        self._run(peer, first_offsets, event_count, event_count)
        appended_ms = [record.timestamp for record in clients.read_from(settings, topic, first_answers)]
        if len(appended_ms) != event_count:
            raise ProcessFailed(f"{peer.name} answered {len(appended_ms):,} of {event_count:,} events")
        return Rate.from_append_times(appended_ms)

    def updates(self, peer: Peer, first_offsets: Offsets, event_count: int, batch: int) -> list[Update]:
        """Its updates, each with a batch of these events."""
        work = self._run(peer, first_offsets, event_count, batch)
        return msgspec.json.decode(work.figures.read_bytes(), type=list[Update])

    def _run(self, peer: Peer, first_offsets: Offsets, event_count: int, batch: int) -> Work:
        testbed, group = self._fixture.testbed, f"peer-{next(self._runs)}"
        folder = testbed.settings.data_dir / "peers" / group
        folder.mkdir(parents=True)
        start = {
            TopicPartition(testbed.topics.events, partition): OffsetAndMetadata(offset, "", -1)
            for partition, offset in first_offsets.items()
        }
        with closing(clients.admin(testbed.settings)) as admin:
            admin.alter_group_offsets(group, start)
        work = Work(peer.way, group, first_offsets, event_count, self._topics[peer], str(folder), batch)
        child = ChildProcess(
            peer.name,
            [str(peer.python), "-m", f"{PACKAGE}.{peer.module}", str(work.write())],
            testbed.processes.logs / f"{group}-{peer.module}.log",
            testbed.processes.environment,
            working_dir=ROOT,
        )
        testbed.processes.add(child).wait()
        return work
