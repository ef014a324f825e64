"""The no-op baseline: a ranker's consume-and-produce loop with its messages but no work. It is a ranker's upper bound.

In figures, topics and files its name is `echo`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

from kafka.admin import NewTopic

from anabranch.harness.bench.figures.statistics import Rate, spread
from anabranch.harness.bench.fixture import BenchFixture
from anabranch.harness.bench.noop_loop import NoopWork, output_topics
from anabranch.harness.environment.processes import ChildProcess
from anabranch.kafka import clients
from anabranch.kafka.offsets import Offsets, ends

APPEND_TIME = {"message.timestamp.type": "LogAppendTime"}
"""As the topics of rankings and feedback have it."""
ANSWER_COUNT = 2_000
"""Rankings and feedback of a ranker that the baseline sends again and again."""


@dataclass(frozen=True)
class NoopBaselineConfig:
    """How much is measured."""

    repeats: int
    events: int
    batches: tuple[int, ...]
    """Values of `batch_max`; each is measured."""


def run(fixture: BenchFixture, config: NoopBaselineConfig) -> dict[str, Any]:
    """The baseline over a backlog, once per repeat and batch size."""
    events = fixture.testbed.ahead.events()
    fixture.commit_start()
    fixture.rank_once(islice(events, ANSWER_COUNT))
    baseline = NoopBaseline(fixture)
    rates: dict[int, list[float]] = {batch: [] for batch in config.batches}
    for _ in range(config.repeats):
        first_offsets = fixture.end_offsets()
        fixture.publish_next(events, config.events)
        for batch in config.batches:
            rates[batch].append(baseline.events_per_second(batch, first_offsets, config.events))
    return {
        "what": "events per second of the no-op baseline, by batch_max",
        "machine": fixture.machine,
        "plan": {"repeats": config.repeats, "backlog": config.events},
        "echo_events_per_second": {str(batch): spread(values) for batch, values in rates.items()},
    }


class NoopBaseline:
    """Runs the no-op loop on a fixture, with the messages that a ranker has published there."""

    def __init__(self, fixture: BenchFixture) -> None:
        self._fixture = fixture
        topics = fixture.testbed.topics
        self._rankings, self._feedback = output_topics(topics)
        self._answers = list(zip(self._read(topics.rankings), self._read(topics.feedback), strict=True))
        self._groups = (f"echo-{number}" for number in count())
        with closing(clients.admin(fixture.settings)) as admin:
            admin.create_topics(
                [
                    NewTopic(name, fixture.settings.partitions, 1, topic_configs=APPEND_TIME)
                    for name in (self._rankings, self._feedback)
                ]
            )

    def events_per_second(self, batch: int, first_offsets: Offsets, event_count: int) -> float:
        """The rate over `event_count` events that are in the log from `first_offsets` on."""
        first_answers = self.end_offsets()
        self.start(batch, first_offsets, event_count).wait()
        return Rate.from_append_times([timestamp for _, timestamp in self._read_answers(first_answers)]).per_second

    def start(self, batch: int, first_offsets: Offsets, event_count: int) -> ChildProcess:
        """Start the loop, which ends once it has answered `event_count` events from `first_offsets` on."""
        path = self._fixture.settings.data_dir / "echoed.msgpack"
        NoopWork(next(self._groups), first_offsets, event_count, self._answers).write(path)
        arguments = ("--set", f"batch_max={batch}", "bench", "noop-loop", "--file", str(path))
        return self._fixture.testbed.processes.start(*arguments)

    def latencies_ms(self, first_offsets: Offsets, first_answers: Offsets, warmup_s: float) -> Iterator[float]:
        """Milliseconds from the append of each event to that of its answer; both from these offsets on.

        Events of the first `warmup_s` seconds are left out. An answer does not name its event, but a partition's
        answers are in the order of its events.
        """
        answers: dict[int, list[int]] = {partition: [] for partition in first_offsets}
        for partition, timestamp in self._read_answers(first_answers):
            answers[partition].append(timestamp)
        next_answers = {partition: iter(timestamps) for partition, timestamps in answers.items()}
        events = list(clients.read_from(self._fixture.settings, self._fixture.testbed.topics.events, first_offsets))
        counted_from = min((record.timestamp for record in events), default=0) + 1000 * warmup_s
        for record in events:
            answered_ms = next(next_answers[record.partition])
            if record.timestamp >= counted_from:
                yield float(answered_ms - record.timestamp)

    def end_offsets(self) -> Offsets:
        """The end offsets of the baseline's rankings."""
        return ends(self._fixture.settings, self._rankings)

    def _read_answers(self, first_answers: Offsets) -> list[tuple[int, int]]:
        """Partition and append time in ms of every answer."""
        records = clients.read_from(self._fixture.settings, self._rankings, first_answers)
        return [(record.partition, record.timestamp) for record in records]

    def _read(self, topic: str) -> list[bytes]:
        records = clients.read_to_end(self._fixture.settings, [topic])
        return [record.value for record in islice(records, ANSWER_COUNT)]
