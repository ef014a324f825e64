"""The peers: what each needs, and its process on a stand."""

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

from anabranch.harness.bench.fixture import Speed, Stand
from anabranch.harness.bench.noop_baseline import APPEND_TIME
from anabranch.harness.environment.processes import Child, ProcessFailed
from anabranch.kafka import clients
from anabranch.kafka.offsets import Offsets, ends
from tests.benchmarks.peers.work import Update, Work

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / ".venv-peers/bin/python"
"""The environment of its own that some need: `make peers` makes it."""
PACKAGE = "tests.benchmarks.peers"


@dataclass(frozen=True)
class Peer:
    """A module of this package, one of the ways it has, and the package of others that it is about."""

    name: str
    module: str
    way: str
    needs: str
    python: Path

    def missing(self) -> str | None:
        """Why it cannot run; None where it can."""
        if not self.python.exists():
            return f"{self.python} is not there: `make peers` makes it"
        look = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({self.needs!r}) is None)"
        if subprocess.run([self.python, "-c", look], check=False).returncode:
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
    """Runs peers on a stand, each on a topic of its own, in a group of its own each time."""

    def __init__(self, stand: Stand, peers: Iterable[Peer]) -> None:
        self._stand = stand
        self._runs = count()
        self._topics = {
            peer: f"{stand.bed.topics.rankings}-{peer.module}-{number}" for number, peer in enumerate(peers)
        }
        made = [
            NewTopic(name, stand.settings.partitions, 1, topic_configs=APPEND_TIME) for name in self._topics.values()
        ]
        with closing(clients.admin(stand.settings)) as admin:
            admin.create_topics(made)

    def speed(self, peer: Peer, since: Offsets, events: int) -> Speed:
        """How fast it answers so many events from some offsets on. Raises `ProcessFailed` where it leaves some out."""
        settings, topic = self._stand.settings, self._topics[peer]
        before = ends(settings, topic)
        self._run(peer, since, events, events)
        appended = [record.timestamp for record in clients.read_from(settings, topic, before)]
        if len(appended) != events:
            raise ProcessFailed(f"{peer.name} answered {len(appended):,} of {events:,} events")
        return Speed.of(appended)

    def updates(self, peer: Peer, since: Offsets, events: int, batch: int) -> list[Update]:
        """Its updates by so many of the events at once."""
        return msgspec.json.decode(self._run(peer, since, events, batch).figures.read_bytes(), type=list[Update])

    def _run(self, peer: Peer, since: Offsets, events: int, batch: int) -> Work:
        bed, group = self._stand.bed, f"peer-{next(self._runs)}"
        folder = bed.settings.data_dir / "peers" / group
        folder.mkdir(parents=True)
        with closing(clients.admin(bed.settings)) as admin:
            places = {TopicPartition(bed.topics.events, at): OffsetAndMetadata(to, "", -1) for at, to in since.items()}
            admin.alter_group_offsets(group, places)
        work = Work(peer.way, group, since, events, self._topics[peer], str(folder), batch)
        log = bed.processes.logs / f"{group}-{peer.module}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [peer.python, "-m", f"{PACKAGE}.{peer.module}", str(work.write())],
                env=bed.processes.environment,
                cwd=ROOT,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        child = Child(peer.name, process, log)
        bed.processes.children.append(child)  # so that it is stopped whatever happens
        child.wait()
        return work
