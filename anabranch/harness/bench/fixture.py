"""The fixture of every benchmark: Apache Kafka on one node, a catalogue, one live release, and ranker processes."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from kafka.consumer.fetcher import ConsumerRecord

from anabranch import messages
from anabranch.errors import UsageError
from anabranch.harness.bench.ranker_process import RankerProcess
from anabranch.harness.environment.cluster import start_cluster
from anabranch.harness.environment.processes import ChildProcess, Processes, free_ports
from anabranch.harness.environment.ranker_probe import RankerProbe
from anabranch.harness.environment.reconciliation import EventPosition, LoggedEvent, LoggedRanking
from anabranch.harness.environment.testbed import Testbed, child_environment, clear, cluster_settings
from anabranch.kafka import clients
from anabranch.kafka.offsets import Offsets, ends, from_time, lag
from anabranch.messages import Event, IndexingComplete
from anabranch.settings import Settings
from anabranch.settings_loader import as_text
from producers.pace import Pace

SESSION_TIMEOUT_MS = 10_000


@dataclass(frozen=True)
class FixtureOptions:
    """What a benchmark runs on."""

    households: int
    random_seed: int
    releases: Path | None = None
    """A folder with a release to serve; None: one is trained."""
    items: int = 0
    """Smallest number of items in the catalogue."""


class BenchFixture:
    """A testbed with a live release, and what benchmarks do with it. Offsets are those of `events`."""

    def __init__(self, testbed: Testbed, indexer: ChildProcess, machine: dict[str, Any]) -> None:
        self.testbed = testbed
        self.settings = testbed.settings
        self.indexer = indexer
        self.machine = machine
        """The machine and the catalogue, for the figures."""

    def start_ranker(self, *global_options: str, start: str = "latest") -> RankerProcess:
        """Start a ranker; `await_ready` waits until it ranks."""
        [port] = free_ports(1)
        arguments = (*global_options, "rank", "--start", start, "--metrics-port", str(port))
        return RankerProcess(self.testbed.processes.start(*arguments), RankerProbe(port))

    @contextmanager
    def rankers(self, count: int = 1, **settings: object) -> Iterator[list[RankerProcess]]:
        """Rankers with these settings, ready; stopped at the end of the block."""
        options = [part for name, value in settings.items() for part in ("--set", f"{name}={as_text(value)}")]
        rankers = [self.start_ranker(*options) for _ in range(count)]
        self.await_ready(*rankers)
        yield rankers  # where the block raises, all processes are stopped with the fixture
        for ranker in rankers:
            ranker.process.stop()

    def commit_start(self) -> None:
        """Let a ranker commit the offsets after the history, where the next ranker then starts."""
        self.rank_once(())

    def publish_next(self, events: Iterator[Event], count: int, pace: Pace | None = None) -> None:
        """Publish the next `count` events. Raises `UsageError` if there are fewer."""
        chosen = list(islice(events, count))
        if len(chosen) < count:
            raise UsageError(
                f"the households have {count - len(chosen)} events too few: choose more --households, or fewer events "
                "or repeats"
            )
        self.testbed.publish(chosen, pace)

    def rank_once(self, events: Iterable[Event]) -> None:
        """Publish events, and rank every event that has no ranking yet."""
        self.testbed.publish(events)
        with self.rankers():
            self.await_drained()

    def await_ready(self, *rankers: RankerProcess) -> None:
        """Wait until the rankers hold every partition and have restored them."""

        def restored() -> bool:
            held = [ranker.partitions for ranker in rankers]
            remaining = sum(ranker.remaining_restore for ranker in rankers)
            every_partition = len(frozenset[int]().union(*held)) == self.settings.partitions
            return every_partition and remaining == 0 and all(held)

        self.wait_until(restored, "the rankers hold every partition")

    def await_rebalanced(self, before: Sequence[frozenset[int]], rankers: Sequence[RankerProcess]) -> None:
        """Wait until the rankers hold other partitions than `before`, and have restored them."""

        def changed() -> bool:
            remaining = sum(ranker.remaining_restore for ranker in rankers)
            return [ranker.partitions for ranker in rankers] != list(before) and remaining == 0

        self.wait_until(changed, "the group rebalances")

    def await_drained(self) -> None:
        """Wait until every event is ranked."""
        self.wait_until(lambda: lag(self.settings) == 0, "the rankers catch up")

    def wait_until(self, condition: Callable[[], bool], description: str) -> None:
        """Wait for a condition. Raises `ProcessFailed` if a process ends badly meanwhile, or after a timeout."""
        self.testbed.wait_until(condition, description, on_poll=self.testbed.processes.check)

    def latencies_ms(self, first_offsets: Offsets, warmup_s: float = 0.0) -> list[tuple[int, float]]:
        """Partition and milliseconds from append to ranking of every event from `first_offsets` on.

        Events of the first `warmup_s` seconds are left out: a process that has just started is slower.
        """
        events, rankings = self.read_back(first_offsets)
        counted_from = min((event.appended_ms for event in events.values()), default=0) + 1000 * warmup_s
        appended_ms = {position: event.appended_ms for position, event in events.items()}
        return [
            (ranking.event_position[0], float(ranking.appended_ms - appended_ms[ranking.event_position]))
            for ranking in rankings
            if appended_ms[ranking.event_position] >= counted_from
        ]

    def item_vector_records(self) -> list[ConsumerRecord]:
        """The records of `item-vectors`, once the indexer has embedded the whole catalogue."""
        topic, records = self.testbed.topics.item_vectors, list[ConsumerRecord]()

        def complete() -> bool:
            records[:] = clients.read_to_end(self.settings, [topic])
            decoded = (messages.item_vectors.decode(record.value) for record in records if record.value)
            return any(isinstance(message, IndexingComplete) for message in decoded)

        self.wait_until(complete, "the indexer embeds the catalogue")
        return records

    def end_offsets(self) -> Offsets:
        """The end offsets of `events`."""
        return ends(self.settings, self.testbed.topics.events)

    def append_times_ms(self, first_offsets: Offsets) -> list[int]:
        """When the rankings of the events from `first_offsets` on were appended."""
        return [ranking.appended_ms for ranking in self.read_back(first_offsets)[1]]

    def read_back(self, first_offsets: Offsets) -> tuple[dict[EventPosition, LoggedEvent], list[LoggedRanking]]:
        """The events from `first_offsets` on, and their rankings."""
        events = {
            (record.partition, record.offset): LoggedEvent(messages.events.decode(record.value), record.timestamp)
            for record in clients.read_from(self.settings, self.testbed.topics.events, first_offsets)
        }
        topic = self.testbed.topics.rankings
        first_append_ms = min((event.appended_ms for event in events.values()), default=0)
        logged = (
            LoggedRanking(messages.rankings.decode(record.value), record.timestamp)
            for record in clients.read_from(self.settings, topic, from_time(self.settings, topic, first_append_ms))
        )
        return events, [ranking for ranking in logged if ranking.event_position in events]


@contextmanager
def open_fixture(settings: Settings, options: FixtureOptions) -> Iterator[BenchFixture]:
    """Start the broker, publish history and catalogue, announce a release, start the indexer; stop all at the end."""
    clear(settings.data_dir)
    with start_cluster(1, settings.data_dir / "cluster") as cluster:
        settings = cluster_settings(settings, cluster, SESSION_TIMEOUT_MS)
        with Processes(child_environment(settings), settings.data_dir / "logs") as processes:
            testbed = Testbed(settings, processes, options.households, options.random_seed)
            testbed.provision(len(testbed.ahead), options.items)
            (name,) = testbed.prepare_releases(options.releases, options.random_seed)
            testbed.announce(name)
            indexer = processes.start("index")
            machine = {
                "broker": "Apache Kafka, one node, on the same machine",
                "python": platform.python_version(),
                "cores": os.cpu_count(),
                "items": len(testbed.items),
                "partitions": settings.partitions,
            }
            yield BenchFixture(testbed, indexer, machine)
