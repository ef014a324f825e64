"""Where benchmarks run: Apache Kafka on one node, real items, one release, and rankers as processes."""

from __future__ import annotations

import os
import platform
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple, Self

import numpy as np
from kafka.consumer.fetcher import ConsumerRecord
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from anabranch import messages
from anabranch.errors import UsageError
from anabranch.harness.environment.cluster import start_cluster
from anabranch.harness.environment.processes import Child, Processes
from anabranch.harness.environment.ranker_probe import free_port
from anabranch.harness.environment.reconciliation import Answer, Place, Published
from anabranch.harness.environment.testbed import Bed, clear, environment, on_cluster
from anabranch.kafka import clients
from anabranch.kafka.offsets import Offsets, ends, from_time, lag
from anabranch.messages import Coverage, Event
from anabranch.settings import Settings
from producers.pace import Pace

SESSION_TIMEOUT_MS = 10_000


@dataclass
class Ranker:
    """A ranker process and its metrics."""

    child: Child
    port: int

    def value(self, name: str) -> float:
        """The sum of a metric's samples; 0 while it does not answer."""
        try:
            return sum(sample.value for sample in self._samples(name))
        except OSError:
            return 0.0

    def by_label(self, name: str, label: str) -> dict[str, float]:
        """A metric's samples by one of its labels."""
        return {sample.labels[label]: sample.value for sample in self._samples(name)}

    def _samples(self, name: str) -> list[Sample]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            families = text_string_to_metric_families(answer.read().decode())
        return [sample for family in families for sample in family.samples if sample.name == name]

    @property
    def held(self) -> frozenset[int]:
        """The partitions its log says it holds."""
        assert self.child.log is not None
        lines = [line for line in self.child.log.read_text().splitlines() if "partitions held: " in line]
        listed = lines[-1].rpartition("partitions held: ")[2].strip("[]") if lines else ""
        return frozenset(int(one) for one in listed.split(",") if one.strip().isdigit())

    def told(self, text: str) -> datetime:
        """When its log last said so."""
        assert self.child.log is not None
        line = [line for line in self.child.log.read_text().splitlines() if text in line][-1]
        return datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f")

    @property
    def resident_bytes(self) -> int:
        """The process's memory, as the kernel counts it."""
        status = Path(f"/proc/{self.child.process.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))


class Stand:
    """A bed with a live release that is vectorised."""

    def __init__(self, bed: Bed, machine: dict[str, Any]) -> None:
        self.bed = bed
        self.settings = bed.settings
        self.machine = machine

    def rank(self, *arguments: str, start: str = "latest") -> Ranker:
        """Start a ranker; it restores by itself."""
        port = free_port()
        child = self.bed.processes.start(*arguments, "rank", "--start", start, "--metrics-port", str(port))
        return Ranker(child, port)

    @contextmanager
    def ranking(self, count: int = 1, **settings: object) -> Iterator[list[Ranker]]:
        """So many rankers, ready, while the block lasts, with these settings."""
        arguments = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
        rankers = [self.rank(*arguments) for _ in range(count)]
        self.ready(*rankers)
        yield rankers  # where it raises, all processes are stopped with the stand
        for ranker in rankers:
            ranker.child.stop()

    def begin(self) -> None:
        """Have the group begin behind the history, where the next ranker goes on."""
        self.rank_once(())

    def publish(self, ahead: Iterator[Event], count: int, pace: Pace | None = None) -> None:
        """Publish the next so many events. Raises `UsageError` where there are fewer."""
        chosen = list(islice(ahead, count))
        if len(chosen) < count:
            raise UsageError(
                f"the households' events are used up, {count - len(chosen)} before the end: take more --households, or "
                "fewer events or repeats"
            )
        self.bed.publish(chosen, pace)

    def rank_once(self, events: Iterable[Event]) -> None:
        """Publish events, and rank what has not been ranked."""
        self.bed.publish(events)
        with self.ranking():
            self.drained()

    def ready(self, *rankers: Ranker) -> None:
        """Wait until the rankers hold every partition and have restored them."""

        def restored() -> bool:
            held = frozenset[int]().union(*(one.held for one in rankers))
            waiting = sum(one.value("anabranch_restore_remaining") for one in rankers)
            return len(held) == self.settings.partitions and waiting == 0 and all(one.held for one in rankers)

        self.bed.wait(restored, "the rankers to hold every partition", meanwhile=self.bed.processes.check)

    def settle(self, before: Sequence[frozenset[int]], rankers: Sequence[Ranker]) -> None:
        """Wait until what the rankers hold has changed, and nothing is being restored."""

        def changed() -> bool:
            waiting = sum(one.value("anabranch_restore_remaining") for one in rankers)
            return [one.held for one in rankers] != list(before) and waiting == 0

        self.bed.wait(changed, "the group to settle", meanwhile=self.bed.processes.check)

    def waits(self, since: Offsets, warming_s: float = 0.0) -> list[tuple[int, float]]:
        """The partition of every event since some offsets, and the milliseconds from its append to its ranking's.

        Those appended in the first `warming_s` seconds are left out: who has just started is not what is measured.
        """
        events, answers = self.answered(since)
        begin = min((one.appended for one in events.values()), default=0) + 1000 * warming_s
        times = [(answer, events[answer.place].appended) for answer in answers]
        return [(answer.place[0], float(answer.appended - at)) for answer, at in times if at >= begin]

    def item_vectors(self) -> list[ConsumerRecord]:
        """The records of item vectors, once the indexer has covered the catalogue."""
        topic, records = self.bed.topics.item_vectors, list[ConsumerRecord]()

        def covered() -> bool:
            records[:] = clients.read_to_end(self.settings, [topic])
            return any(isinstance(messages.item_vectors.decode(one.value), Coverage) for one in records if one.value)

        self.bed.wait(covered, "the indexer to cover the catalogue", meanwhile=self.bed.processes.check)
        return records

    def drained(self) -> None:
        """Wait until every event is ranked."""
        self.bed.wait(lambda: lag(self.settings) == 0, "the rankers to catch up", meanwhile=self.bed.processes.check)

    def ends(self) -> Offsets:
        """The ends of the log of events."""
        return ends(self.settings, self.bed.topics.events)

    def answered(self, since: Offsets) -> tuple[dict[Place, Published], list[Answer]]:
        """The events since some offsets, and the rankings that answer them."""
        events = {
            (record.partition, record.offset): Published(messages.events.decode(record.value), record.timestamp)
            for record in clients.read_from(self.settings, self.bed.topics.events, since)
        }
        topic = self.bed.topics.rankings
        first = from_time(self.settings, topic, min((one.appended for one in events.values()), default=0))
        answers = [
            answer
            for record in clients.read_from(self.settings, topic, first)
            if (answer := Answer(messages.rankings.decode(record.value), record.timestamp)).place in events
        ]
        return events, answers


@contextmanager
def on_stand(settings: Settings, releases: Path | None, households: int, seed: int, items: int = 0) -> Iterator[Stand]:
    """Start everything a benchmark needs, with a catalogue of at least so many items; stop it at the end."""
    clear(settings.data_dir)
    with start_cluster(1, settings.data_dir / "cluster") as cluster:
        settings = on_cluster(settings, cluster, SESSION_TIMEOUT_MS)
        with Processes(environment(settings), settings.data_dir / "logs") as processes:
            bed = Bed(settings, processes, households, seed)
            bed.provision(len(bed.ahead), items)
            (name,) = bed.releases(1, releases, seed)
            bed.announce(name)
            processes.start("index")
            machine = {
                "broker": "Apache Kafka, one node, on the same machine",
                "python": platform.python_version(),
                "cores": os.cpu_count(),
                "items": len(bed.items),
                "partitions": settings.partitions,
            }
            yield Stand(bed, machine)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean and standard deviation, smallest and largest."""
    deviation = stdev(values) if len(values) > 1 else 0.0
    return {"mean": mean(values), "sd": deviation, "min": min(values), "max": max(values)}


class Speed(NamedTuple):
    """How fast messages came."""

    per_second: float
    seconds: float

    @classmethod
    def of(cls, appended: Sequence[int]) -> Self:
        """From when they were appended, in ms: from the first on, before which a process got ready.

        A millisecond is the least that can be told.
        """
        seconds = max(1, max(appended) - min(appended)) / 1000
        return cls(len(appended) / seconds, seconds)


def in_stretches(appended: Sequence[int], count: int) -> list[float]:
    """Messages a second in so many stretches of as many messages each, from when these were appended, in ms."""
    parts = np.array_split(np.sort(appended), count)
    begins = [parts[0][0], *(part[-1] for part in parts)]
    return [1000 * len(part) / max(1, int(part[-1] - begin)) for begin, part in zip(begins, parts, strict=False)]


def percentiles(milliseconds: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and the largest."""
    return {f"p{q}": float(np.percentile(milliseconds, q)) for q in (50, 95, 99)} | {"max": float(max(milliseconds))}
