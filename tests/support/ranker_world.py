"""A ranker on Kafka in memory, a loop turn at a time: what it does to the topics is all that tests look at."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from anabranch import messages
from anabranch.kafka.records import OutboundRecord
from anabranch.kafka.topics import Topics, key
from anabranch.messages import STATE_MARKER_KEY, Event, Feedback, Ranking, ReleaseNotice, SavedState, encode
from anabranch.metrics import RankerMetrics
from anabranch.settings import Settings
from consumers.ranker.clients import RankerClients
from consumers.ranker.partition_task import TaskState
from consumers.ranker.pending_transaction import SynchronousExecutor
from consumers.ranker.ranker import Ranker
from consumers.releases.release_source import AnnouncedRelease
from consumers.releases.updates import SwapRelease, Update
from consumers.runtime.publishers import AtLeastOncePublisher
from consumers.user_states.state_store import StateStore
from tests.support.in_memory_kafka import (
    InMemoryGroupConsumer,
    InMemoryKafka,
    InMemoryPublisher,
    LazyExecutor,
    ManualClock,
)
from tests.support.in_memory_producer import InMemoryProducer
from tests.support.releases import live_release, write_release

CATALOGUE = [f"item {number}" for number in range(40)]
PARTITIONS = (0, 1)
CHECKPOINT_S = 5.0


class ScriptedReleases:
    """A `ReleaseSource`: a test puts updates in."""

    def __init__(self) -> None:
        self.updates: deque[Update] = deque()
        self.failure: BaseException | None = None
        self.waiting_for = "a live release"
        self.closed = False
        self.unservable: set[str] = set()
        self.notices: list[ReleaseNotice] = []

    def start(self) -> None:
        pass

    def is_unservable(self, name: str) -> bool:
        return name in self.unservable

    def raise_failure(self) -> None:
        if self.failure is not None:
            raise self.failure

    def take_updates(self, limit: int | None = None) -> Iterator[Update]:
        while self.updates and limit != 0:
            yield self.updates.popleft()
            limit = None if limit is None else limit - 1

    @property
    def has_updates(self) -> bool:
        return bool(self.updates)

    def announced(self) -> list[AnnouncedRelease]:
        problems = {name: "another version made it" for name in self.unservable}
        return [AnnouncedRelease(notice, problems.get(notice.release)) for notice in self.notices]

    def close(self) -> None:
        self.closed = True


class RankerProcess:
    """One ranker process: its memory goes with it, the logs stay."""

    def __init__(self, world: RankerWorld, **settings: Any) -> None:
        self.settings = Settings(**world.settings | settings)
        self.registry = CollectorRegistry()
        self.metrics = RankerMetrics(self.registry)
        self.store = StateStore.new(self.settings)
        self.releases = ScriptedReleases()
        self.group = InMemoryGroupConsumer(world.kafka, world.topics.events)
        self.publisher = InMemoryPublisher(world.kafka)
        self.log_reader = world.kafka.log_reader()
        clients = RankerClients(self.group, self.publisher, LazyExecutor(), self.log_reader, world.clock.clock())
        if self.settings.processing_guarantee == "at_least_once":
            producer = InMemoryProducer(world.kafka)
            publisher = AtLeastOncePublisher(self.settings, producer, self.group.commit, self.publisher)
            clients = replace(clients, publisher=publisher, publish_executor=SynchronousExecutor())
        self.ranker = Ranker(self.settings, self.store, clients, self.releases, self.metrics)
        self._world = world

    def go_live(self, release_id: str = "r1") -> None:
        """The watcher has a release ready, which has been announced."""
        folder = self._world.release(release_id)
        self._world.announce(release_id)
        self.releases.updates.append(SwapRelease(live_release(folder, self.store.items, CATALOGUE)))

    def turn(self, times: int = 1) -> None:
        """Turns of the loop."""
        for _ in range(times):
            self.ranker.run_once()

    def settle(self) -> None:
        """Turns until every event is ranked and committed and nothing is to be restored; time passes meanwhile."""
        for _ in range(200):
            self._world.clock.advance(0.3)
            self.turn()
            if self._is_settled():
                return
        raise AssertionError("the ranker does not settle in 200 turns")

    def stop(self) -> None:
        """As on SIGTERM."""
        self.ranker.final_checkpoint()
        self.ranker.close()

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"anabranch_{name}", labels)

    def _is_settled(self) -> bool:
        kafka, topic = self._world.kafka, self._world.topics.events
        ends = {partition: kafka.end(topic, partition) for partition in self.group.assigned}
        is_committed = all(kafka.committed.get(partition) == end for partition, end in ends.items())
        is_running = all(task.state is TaskState.RUNNING for task in self.ranker.tasks)
        return self.group.is_stable and is_committed and is_running


class RankerWorld:
    """Kafka, a clock, releases on disk, and the events that were sent."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.settings: dict[str, Any] = {
            "partitions": len(PARTITIONS),
            "slate_size": 5,
            "batch_max": 4,
            "checkpoint_ms": int(1000 * CHECKPOINT_S),
            "max_users": 1000,
            "start": "earliest",
            "threads": 1,
            **settings,
        }
        self.topics = Topics(Settings(**self.settings))
        self.kafka = InMemoryKafka()
        self.clock = ManualClock()
        self._folder = folder
        self.sent: list[Event] = []

    def process(
        self, release: str | None = "r1", assigned: Sequence[int] = PARTITIONS, **settings: Any
    ) -> RankerProcess:
        """A new process, which the group gives the partitions."""
        process = RankerProcess(self, **settings)
        if release is not None:
            process.go_live(release)
        process.group.assign(*assigned)
        return process

    def rank(self, *events: Event) -> RankerProcess:
        """A new process that is ready before these events are sent, and has ranked them."""
        process = self.process()
        process.settle()
        self.send(*events)
        process.settle()
        return process

    def release(self, release_id: str) -> Path:
        """A release of that id; its digits seed its weights."""
        folder = self._folder / release_id
        if not folder.exists():
            write_release(folder, release_id, CATALOGUE, seed=int(release_id.strip("r")))
        return folder

    def announce(self, release_id: str) -> None:
        """A notice that the release is live."""
        notice = ReleaseNotice(release=release_id, status="live", ts=0, location=release_id, manifest_sha256="")
        self.kafka.append(OutboundRecord(self.topics.releases, release_id.encode(), encode(notice)))

    def send(self, *events: Event) -> None:
        """Append events, each in the partition of its user: the number in the user's name decides."""
        for event in events:
            self.sent.append(event)
            self.send_bytes(encode(event), event.user_id)

    def send_bytes(self, value: bytes, user_id: str) -> None:
        """Append what may be no event."""
        partition = partition_of(user_id)
        self.kafka.append(OutboundRecord(self.topics.events, key(user_id), value, partition))

    def rankings(self) -> list[Ranking]:
        records = self.kafka.records(self.topics.rankings)
        return [messages.rankings.decode(record.value) for record in records if record.value is not None]

    def feedback(self) -> list[Feedback]:
        records = self.kafka.records(self.topics.feedback)
        return [messages.feedback.decode(record.value) for record in records if record.value is not None]

    def slates(self) -> dict[str, list[str]]:
        """The slate after each event. Fails if an event has two rankings."""
        rankings = self.rankings()
        slates = {ranking.cause.event_id: [item.item_id for item in ranking.slate] for ranking in rankings}
        assert len(slates) == len(rankings), "an event was ranked twice"
        return slates

    def saved_states(self) -> dict[str, SavedState]:
        """The newest saved state of each user."""
        states: dict[str, SavedState] = {}
        for record in self.kafka.records(self.topics.user_state):
            if record.key != STATE_MARKER_KEY and record.value is not None:
                states[(record.key or b"").decode()] = messages.user_states.decode(record.value)
        return states

    def assert_exactly_once(self, process: RankerProcess) -> None:
        """What the topics hold is what an uninterrupted ranker would have published, and saved, from these events."""
        process.settle()
        process.stop()
        reference = self.uninterrupted()
        assert self.slates() == reference.slates()
        assert [entry.event.event_id for entry in self.feedback()] == [
            entry.event.event_id for entry in reference.feedback()
        ]
        assert [(entry.rank, entry.release) for entry in self.feedback()] == [
            (entry.rank, entry.release) for entry in reference.feedback()
        ]
        assert self.saved_states() == reference.saved_states()

    def assert_at_least_once(self, process: RankerProcess) -> None:
        """Every event has rankings, all with the slate of an uninterrupted ranker, and the saved states are its own."""
        process.settle()
        process.stop()
        reference = self.uninterrupted()
        slates = {(ranking.cause.event_id, *(item.item_id for item in ranking.slate)) for ranking in self.rankings()}
        assert slates == {(event_id, *slate) for event_id, slate in reference.slates().items()}
        assert self.saved_states() == reference.saved_states()

    def uninterrupted(self) -> RankerWorld:
        """Another world, in which one ranker has had the same events, and has stopped."""
        reference = RankerWorld(self._folder, **self.settings)
        reference.send(*self.sent)
        process = reference.process()
        process.settle()
        process.stop()
        return reference


def partition_of(user_id: str) -> int:
    return int(user_id.strip("u")) % len(PARTITIONS)


def purchases(count: int, users: int = 4, first: int = 0) -> list[Event]:
    """Purchases of users u0, u1, … in turn; every third is of what the user bought before."""
    return [
        Event(
            event_id=f"e{number}",
            user_id=f"u{number % users}",
            type="purchase",
            ts=1_000_000 + 60_000 * number,
            item_id=CATALOGUE[(number // 3 if number % 3 == 2 else number) % len(CATALOGUE)],
        )
        for number in range(first, first + count)
    ]
