"""What a test of the stream needs: a release and its vectors, events to publish, processes, and what they published."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from kafka import TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from anabranch import messages, release
from anabranch.co_visit_rule import CoVisitRule
from anabranch.harness.environment.ranker_probe import scrape
from anabranch.input_files.items import RemovedItem
from anabranch.kafka import clients, topics
from anabranch.kafka.producer import CheckedProducer
from anabranch.kafka.records import offsets_and_metadata
from anabranch.kafka.topics import Topics
from anabranch.messages import Event, Feedback, IndexingComplete, Item, ItemVector, Ranking, ReleaseNotice, encode
from anabranch.ranking.inference.item_encoder import OnnxItemEncoder, TextEncoder
from anabranch.settings import DEFAULTS, Secret, Settings
from anabranch.settings_loader import PREFIX, as_text
from producers import catalogue, replay
from tests.support.releases import write_release

ITEMS = [f"i{number}" for number in range(60)]
PATIENCE_S = 120.0
"""Two test processes share the cores, so a ranker may take a minute to start."""
TRAINING_PATIENCE_S = 240.0
"""For a process that loads PyTorch, at the lowest priority, before it does anything."""


class World:
    """One test's topics, and what stands in them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.topics = Topics(settings)

    def announce(
        self, name: str, seed: int = 0, parent: str | None = None, co_visits: CoVisitRule | None = None
    ) -> None:
        """Make a release, unless it is there, and announce it live."""
        folder = self.settings.releases_dir / name
        if not folder.exists():
            write_release(folder, name, ITEMS, seed, co_visits=co_visits)
        notice = ReleaseNotice(
            release=name,
            status="live",
            ts=time.time_ns() // 1_000_000,
            location=name,
            manifest_sha256=release.digest(folder / release.MANIFEST),
            parent=parent,
        )
        self.send(self.topics.releases, topics.key(name), encode(notice))

    def vectorise(self, name: str, item_ids: Sequence[str] = ITEMS) -> None:
        """Publish what an indexer would: a vector of every item, each item's id its text, then the coverage."""
        files = release.open_release(self.settings.releases_dir / name)
        vectors = OnnxItemEncoder(files).encode(item_ids, TextEncoder(files).encode(item_ids))
        with self._delivery() as delivery:
            for item_id, vector in zip(item_ids, vectors, strict=True):
                message = ItemVector(item_id=item_id, release=name, vector=vector.tobytes())
                delivery.send(self.topics.item_vectors, topics.vector_key(item_id, name), encode(message))
        self.send(
            self.topics.item_vectors,
            topics.completion_key(name),
            encode(IndexingComplete(release=name, items=len(item_ids), ts=1)),
        )

    def go_live(self, name: str, seed: int = 0) -> None:
        """A live release whose catalogue is covered."""
        self.announce(name, seed)
        self.vectorise(name)

    def publish(self, events: Sequence[Event]) -> None:
        """Publish events as a producer would."""
        with closing(clients.producer(self.settings)) as producer:
            replay.replay(events, producer, self.topics.events)

    def publish_items(self, items: Sequence[Item | RemovedItem]) -> None:
        """Publish items as a producer would."""
        with closing(clients.producer(self.settings)) as producer:
            catalogue.publish(items, producer, self.topics.items)

    def reset_offsets(self) -> None:
        """Everything is to be ranked again: the offsets of the ranker group, which must not run, are the beginnings."""
        offsets = {TopicPartition(self.topics.events, number): 0 for number in range(self.settings.partitions)}
        with closing(clients.admin(self.settings)) as admin:
            results = admin.alter_group_offsets(self.settings.group("ranker"), offsets_and_metadata(offsets))
        assert all(error.errno == 0 for error in results.values()), results

    def send(self, topic: str, key: bytes | None, value: bytes | None) -> None:
        """Publish one message, whatever it is."""
        with self._delivery() as delivery:
            delivery.send(topic, key, value)

    def records(self, topic: str) -> list[ConsumerRecord]:
        """Every committed record of a topic."""
        return list(clients.read_to_end(self.settings, [topic]))

    def rankings(self) -> list[Ranking]:
        """Every committed ranking, in log order within each partition."""
        return [messages.rankings.decode(record.value) for record in self.records(self.topics.rankings)]

    def feedback(self) -> list[Feedback]:
        """Every committed feedback, in log order within each partition."""
        return [messages.feedback.decode(record.value) for record in self.records(self.topics.feedback)]

    def await_rankings(self, count: int) -> list[Ranking]:
        """Wait until so many rankings are committed; all there are."""
        await_true(lambda: len(self.records(self.topics.rankings)) >= count, f"{count} rankings")
        return self.rankings()

    @contextmanager
    def _delivery(self) -> Iterator[CheckedProducer]:
        with closing(clients.producer(self.settings)) as producer, CheckedProducer(producer) as delivery:
            yield delivery


class Process:
    """An `anabranch` command as a process of its own."""

    def __init__(self, settings: Settings, *arguments: str, program: Sequence[str] = ("-m", "anabranch")) -> None:
        """`program` is what Python runs: a test may wrap the command to stop it where no signal would."""
        self.log = settings.data_dir / f"{arguments[0]}-{time.time_ns()}.log"
        environment = os.environ | {
            "ANABRANCH_SESSION_TIMEOUT_MS": "6000",
            **variables(settings),
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        }
        with self.log.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, *program, *arguments], env=environment, stdout=file, stderr=subprocess.STDOUT
            )

    def await_log(self, text: str, patience_s: float = PATIENCE_S) -> str:
        """Wait until the log holds the text; the log's line."""
        await_true(lambda: self.ended or text in self.log.read_text(), f"{text!r} in the log", self.log, patience_s)
        return next(line for line in self.log.read_text().splitlines() if text in line)

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.wait()

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        self._process.terminate()
        return self._process.wait(PATIENCE_S)

    def wait(self) -> int:
        """The exit code, once it ends by itself."""
        return self._process.wait(PATIENCE_S)

    def signal(self, number: signal.Signals) -> None:
        """Any other signal."""
        self._process.send_signal(number)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it has."""
        return self._process.poll() is not None

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.ended:
            self.kill()


class Scrape:
    """A process's metrics, as Prometheus would read them."""

    def __init__(self, url: str) -> None:
        self._url = url

    @classmethod
    def of(cls, process: Process) -> Scrape:
        """From the address in the process's log."""
        return cls(process.await_log("metrics at http").split("metrics at ")[1])

    def __call__(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Value by name and labels."""
        return {(sample.name, frozenset(sample.labels.items())): sample.value for sample in scrape(self._url)}

    def value(self, name: str, **labels: str) -> float:
        """One sample; 0 while there is none."""
        return self().get((name, frozenset(labels.items())), 0.0)


def variables(settings: Settings) -> dict[str, str]:
    """The environment that tells a process what in these settings is not the default."""
    given = {name: getattr(settings, name) for name in settings.__struct_fields__}
    return {
        f"{PREFIX}{name.upper()}": value.reveal() if isinstance(value, Secret) else as_text(value)
        for name, value in given.items()
        if value != getattr(DEFAULTS, name)
    }


def purchases(count: int, users: int = 5, first: int = 0) -> list[Event]:
    """Purchases of a few users in turn, with ids in order."""
    return [
        Event(
            event_id=f"e{number:05d}",
            user_id=f"u{number % users}",
            type="purchase",
            ts=1_500_000_000_000 + number * 60_000,
            item_id=ITEMS[(number * 7) % len(ITEMS)],
            session_id=f"s{number // 20}",
        )
        for number in range(first, first + count)
    ]


def await_true(
    condition: Callable[[], bool], what: str, log: Path | None = None, patience_s: float = PATIENCE_S
) -> None:
    """Wait for a condition; fail, with the end of a log, if it does not come."""
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            tail = "" if log is None else "\n" + "\n".join(log.read_text().splitlines()[-20:])
            raise AssertionError(f"waited {patience_s:.0f} s for {what}{tail}")
        time.sleep(0.1)
