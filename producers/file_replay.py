"""Replay a file of events exactly once, however often the replay is interrupted.

Each transaction (KIP-98) publishes some events, and records on topic `replays` how many events of the file are
published now. So after a crash the next replay of the file goes on after the last event that was committed. Two replays
of a file at the same time have the same transactional id: the second fences the first before it reads that record.

A file can be published again on demand, as events of their own: the record counts on, so that it also tells in which
round an interrupted replay was, and each round gives the events other ids.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice

from kafka import TopicPartition
from kafka.errors import KafkaError
from msgspec import structs

from anabranch.errors import AnabranchError, UsageError
from anabranch.kafka import clients, replay_progress
from anabranch.kafka.records import OutboundRecord
from anabranch.kafka.topics import Topics
from anabranch.kafka.transactional_producer import TransactionalProducer
from anabranch.messages import Event, ReplayProgress
from anabranch.settings import Settings
from producers.event_record import event_record
from producers.pace import FULL_SPEED, DueTimes, Pace, sleep_until

MAX_EVENTS = 2_000
"""Events of one transaction, at most."""
LONGEST_ID = 480
"""Characters of an event's id to which the number of a round is appended; a longer id is replaced by its digest."""


class ReplayInterrupted(AnabranchError):
    """A transaction of the replay was rolled back. What was committed before stays published."""


class UnfinishedReplay(UsageError):
    """A file is to be published again before all of its events are published."""


@dataclass(frozen=True)
class RecordedEvents:
    """The events of a file, in order."""

    file_id: str
    """Names this sequence of events."""
    count: int
    events: Iterable[Event]


@dataclass(frozen=True)
class FileReplayResult:
    """What a replay did."""

    published_before: int
    """Events of the file that earlier replays had published, in this round."""
    published: int
    round: int
    """0 for the first; every `again` begins another."""


class FileReplay:
    """The replay of one file to the topic `events`. `file_id` names its sequence of events."""

    def __init__(self, settings: Settings, file_id: str, pace: Pace = FULL_SPEED) -> None:
        """Connects, and fences any other replay of the file. Raises `BrokerUnavailable`."""
        self._settings = settings
        self._topic = Topics(settings).events
        self._key = replay_progress.file_key(file_id)
        self._pace = pace
        self._group = f"{settings.topic_prefix}replay-{file_id}"
        self._producer = TransactionalProducer(settings, self._group)
        self._topic_id = ""

    def run(
        self,
        recorded: RecordedEvents,
        limit: int | None = None,
        progress: Callable[[int], None] = lambda n: None,
        again: bool = False,
    ) -> FileReplayResult:
        """Publish at most `limit` of the events that no replay has published yet; `progress(n)` after every n.

        With `again`, all events count as not published yet: they get other ids, so that rankers take them as new. The
        record's timestamp is the time of publication, because retention and latency are measured from it; the event's
        `ts` stays the time when it happened. Raises `ReplayInterrupted`, `ReplayProgressError`, and `UnfinishedReplay`
        if `again` comes before the end of a round.
        """
        committed = self._start()
        round, before = _round(committed, recorded.count, again)
        published, due_times, batch = 0, DueTimes(self._pace), list[OutboundRecord]()
        for event in islice(recorded.events, before, None if limit is None else before + limit):
            due_s = due_times.due_s(published + len(batch), event.ts)
            if batch and (len(batch) == MAX_EVENTS or due_s > time.monotonic()):
                published += self._publish(batch, committed + published)
                progress(len(batch))
                batch = []
            sleep_until(due_s)
            batch.append(event_record(self._topic, _of_round(event, round)))
        if batch:
            published += self._publish(batch, committed + published)
            progress(len(batch))
        return FileReplayResult(before, published, round)

    def close(self) -> None:
        """Close the connections."""
        self._producer.abandon()

    def _start(self) -> int:
        """How many events of the file are published, which is on topic `replays` when this returns.

        What was published to a topic that no longer exists does not count. Earlier versions kept the number in the
        committed offset of a group, which brokers delete after seven days, and with the topic.
        """
        source = TopicPartition(self._topic, 0)
        self._topic_id = clients.log_bounds(self._settings, [source])[source].topic_id
        recorded = replay_progress.read(self._settings).get(self._key)
        if recorded is not None and (recorded.topic_id == self._topic_id or not recorded.topic_id):
            return recorded.next
        with closing(clients.group_consumer(self._settings, self._group)) as consumer:
            committed: int = consumer.committed(source) or 0
        if committed:
            self._publish([], committed)
        return committed

    def _publish(self, batch: list[OutboundRecord], published: int) -> int:
        """One transaction with the next events and the progress behind them; the number of events."""
        now_ms = time.time_ns() // 1_000_000
        state = ReplayProgress(next=published + len(batch), ts=now_ms, topic_id=self._topic_id)
        progress = replay_progress.to_record(self._settings, self._key, state)
        try:
            self._producer.publish([*batch, progress], offsets={}, group_metadata=None)
        except KafkaError as error:
            cause = self._producer.root_cause(error)
            raise ReplayInterrupted(
                f"the replay stopped after {published:,} events of the file: {cause}. Run the command again to publish "
                "the rest, unless another replay of the file is running"
            ) from error
        return len(batch)


def replay_file(
    settings: Settings,
    recorded: RecordedEvents,
    pace: Pace = FULL_SPEED,
    limit: int | None = None,
    progress: Callable[[int], None] = lambda n: None,
    again: bool = False,
) -> FileReplayResult:
    """Publish the events of a file that no replay has published yet, or with `again` all: see `FileReplay.run`."""
    with closing(FileReplay(settings, recorded.file_id, pace)) as replay:
        return replay.run(recorded, limit, progress, again)


def _round(committed: int, count: int, again: bool) -> tuple[int, int]:
    """The round to publish in, and how many of its events are published; a round ends with all `count` events."""
    if not committed or not count:
        return 0, 0
    finished, unfinished = divmod(committed, count)
    if unfinished and again:
        raise UnfinishedReplay(
            f"{unfinished:,} of {count:,} events of the file are published: run the command without --again to publish "
            "the rest first"
        )
    return (finished, unfinished) if unfinished or again else (finished - 1, count)


def _of_round(event: Event, round: int) -> Event:
    """The event as published in a round. An id of the first round is the file's own."""
    if not round:
        return event
    event_id = event.event_id
    if len(event_id) > LONGEST_ID:
        event_id = blake2b(event_id.encode(), digest_size=12).hexdigest()
    return structs.replace(event, event_id=f"{event_id}~{round + 1}")
