"""How many events a second the echo answers, by the size of its batches: the limit that a ranker is held against."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

from kafka.admin import NewTopic

from anabranch.harness.bench.fixture import Speed, Stand, spread
from anabranch.harness.bench.noop_loop import Echoed, topics_of
from anabranch.harness.environment.processes import Child
from anabranch.kafka import clients
from anabranch.kafka.offsets import Offsets, ends

APPEND_TIME = {"message.timestamp.type": "LogAppendTime"}
"""As of the topics that the echo's stand for."""
ANSWERS = 2_000
"""Rankings and feedback kept of a ranker for the echo to send."""


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    repeats: int
    events: int
    batches: tuple[int, ...]
    """Events the echo takes at once, at most; each is measured."""


def run(stand: Stand, plan: Plan) -> dict[str, Any]:
    """The echo over a backlog, once a repeat and size of batch."""
    ahead = stand.bed.ahead.events()
    stand.begin()
    stand.rank_once(islice(ahead, ANSWERS))
    echo = Echo(stand)
    speeds: dict[int, list[float]] = {batch: [] for batch in plan.batches}
    for _ in range(plan.repeats):
        since = stand.ends()
        stand.publish(ahead, plan.events)
        for batch in plan.batches:
            speeds[batch].append(echo.speed(batch, since, plan.events))
    return {
        "what": "events a second through the echo, by the most that it takes at once",
        "machine": stand.machine,
        "plan": {"repeats": plan.repeats, "backlog": plan.events},
        "echo_events_per_second": {str(batch): spread(values) for batch, values in speeds.items()},
    }


class Echo:
    """Echoes on a stand, with what a ranker has published there."""

    def __init__(self, stand: Stand) -> None:
        self._stand = stand
        self._rankings, self._feedback = topics_of(stand.bed.topics)
        topics = stand.bed.topics
        self._answers = list(zip(self._first(topics.rankings), self._first(topics.feedback), strict=True))
        self._groups = (f"echo-{number}" for number in count())
        with closing(clients.admin(stand.settings)) as admin:
            admin.create_topics(
                [
                    NewTopic(name, stand.settings.partitions, 1, topic_configs=APPEND_TIME)
                    for name in (self._rankings, self._feedback)
                ]
            )

    def speed(self, batch: int, since: Offsets, events: int) -> float:
        """Events a second over so many that are in the log from some offsets on."""
        before = self.ends()
        self.start(batch, since, events).wait()
        return Speed.of([timestamp for _, timestamp in self._answered(before)]).per_second

    def start(self, batch: int, since: Offsets, events: int) -> Child:
        """The echo's process, which ends once it has answered so many events from some offsets on."""
        path = self._stand.settings.data_dir / "echoed.msgpack"
        Echoed(next(self._groups), since, events, self._answers).write(path)
        return self._stand.bed.processes.start("--set", f"batch_max={batch}", "bench", "echo-loop", "--file", str(path))

    def waits(self, since: Offsets, before: Offsets, warming_s: float) -> Iterator[float]:
        """Milliseconds from each event's append, from `since` on, to that of its echo, from `before` on.

        Those appended in the first `warming_s` seconds are left out. An echo does not say what it answers; but a
        partition's stand in the order of its events.
        """
        answers: dict[int, list[int]] = {partition: [] for partition in since}
        for partition, timestamp in self._answered(before):
            answers[partition].append(timestamp)
        waiting = {partition: iter(timestamps) for partition, timestamps in answers.items()}
        events = list(clients.read_from(self._stand.settings, self._stand.bed.topics.events, since))
        begin = min((record.timestamp for record in events), default=0) + 1000 * warming_s
        for record in events:
            answered = next(waiting[record.partition])
            if record.timestamp >= begin:
                yield float(answered - record.timestamp)

    def ends(self) -> Offsets:
        """The ends of the log of echoes."""
        return ends(self._stand.settings, self._rankings)

    def _answered(self, before: Offsets) -> list[tuple[int, int]]:
        """Partition and time of every echo since."""
        records = clients.read_from(self._stand.settings, self._rankings, before)
        return [(record.partition, record.timestamp) for record in records]

    def _first(self, topic: str) -> list[bytes]:
        return [record.value for record in islice(clients.read_to_end(self._stand.settings, [topic]), ANSWERS)]
