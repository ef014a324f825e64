"""Where the ranking of a partition begins: the group's offset, judged by what the log still has.

A group whose offset has expired (`offsets.retention.minutes`) remembers it by what it published.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import NamedTuple

from kafka import TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from msgspec.structs import replace

from anabranch import messages
from anabranch.errors import EventsLost
from anabranch.kafka.log_bounds import (
    BreakReason,
    HeldPosition,
    LogBounds,
    LogLoss,
    describe,
    find_loss,
    is_other_topic,
)
from anabranch.kafka.log_reader import PartitionReader
from anabranch.kafka.log_tail import Steps, find_newest
from anabranch.kafka.records import OutboundRecord
from anabranch.kafka.topics import Topics
from anabranch.messages import STATE_MARKER_KEY, InvalidMessage, Rebase, StateMarker, encode_binary
from anabranch.metrics import RankerMetrics
from anabranch.settings import Settings
from consumers.ranker.clients import RankerClients
from consumers.ranker.dead_letter_offsets import DeadLetterOffsets
from consumers.ranker.log_agreement import LogPart, find_agreed_end, read_ranked_event
from consumers.ranker.partition_task import PartitionTasks
from consumers.runtime.group_consumer import NO_OFFSET
from consumers.user_states.changelog import decode_state
from consumers.user_states.state_markers import NO_MARKER, find_marker
from consumers.user_states.state_owner import StateOwner

log = logging.getLogger(__name__)

TRUNCATION_GRACE_S = 5.0
"""How long a log must be seen to be too short: a broker that has just become the leader may not know its end yet."""


class PartitionLogs(NamedTuple):
    """One partition of each topic that its recovery reads."""

    events: TopicPartition
    user_state: TopicPartition
    rankings: TopicPartition
    feedback: TopicPartition

    @classmethod
    def of(cls, topics: Topics, partition: int) -> PartitionLogs:
        """By the number of the partition."""
        names = (topics.events, topics.user_state, topics.rankings, topics.feedback)
        return cls(*(TopicPartition(name, partition) for name in names))


class PartitionView(NamedTuple):
    """What the topics hold about a partition at one time."""

    logs: PartitionLogs
    bounds: dict[TopicPartition, LogBounds]
    """Of every topic of `logs`."""
    saved: StateMarker | None
    """The newest marker; None: no state has been saved."""

    @property
    def marker(self) -> StateMarker:
        """The newest marker, or one that says that nothing is saved."""
        return self.saved or NO_MARKER

    @property
    def events(self) -> LogBounds:
        """The ends of the log of events."""
        return self.bounds[self.logs.events]

    @property
    def feedback(self) -> LogPart:
        """The feedback about the log as it is, without that about a log which it replaced."""
        bounds = self.bounds[self.logs.feedback]
        start = max([bounds.start, *(rebase.feedback_end for rebase in self.marker.rebases)])
        return LogPart(self.logs.feedback, bounds._replace(start=start))

    def held(self, offset: int) -> HeldPosition:
        """What a group with this offset remembers."""
        saved_to = None if self.saved is None else self.saved.offset
        return HeldPosition(offset, saved_to, self.marker.events_topic_id)


class StartPosition(NamedTuple):
    """Where ranking begins."""

    offset: int
    """The group's committed offset, which is final."""
    view: PartitionView
    """As of after the offset was known."""


class Damage(NamedTuple):
    """What is lost, and how ranking can go on."""

    reason: BreakReason
    description: str
    """Which log, what it holds, and what is lost."""
    events: int
    """Events whose loss is known."""
    resume_at: int
    marker: StateMarker
    """The one to go on with."""


class StartPositions:
    """Finds where partitions begin."""

    def __init__(
        self,
        settings: Settings,
        clients: RankerClients,
        tasks: PartitionTasks,
        dead_letters: DeadLetterOffsets,
        metrics: RankerMetrics,
    ) -> None:
        self._topics = Topics(settings)
        self._group_name = settings.group("ranker")
        self._owner = StateOwner.from_settings(settings)
        self._continues = settings.on_lost_events == "continue"
        self._clients = clients
        self._tasks = tasks
        self._dead_letters = dead_letters
        self._metrics = metrics

    def find(self, reader: PartitionReader, logs: PartitionLogs) -> Steps[StartPosition]:
        """Yields between steps. Raises `EventsLost`, and `TransactionAborted`, after which it may be tried again.

        Whatever is decided is committed first, and then the group is asked again.
        """
        is_confirmed = False
        while True:
            offset = yield from self._committed_offset(logs.events.partition)
            view = yield from self._view(reader, logs)
            if offset == NO_OFFSET:
                yield from self._commit_offset(reader, view)
                continue
            damage = yield from find_damage(reader, view, offset)
            if damage is None:
                return StartPosition(offset, view)
            if damage.reason == "truncated" and not is_confirmed:
                yield from self._wait(TRUNCATION_GRACE_S)
                is_confirmed = True
            else:
                self._continue_with(damage, logs)

    def _committed_offset(self, partition: int) -> Steps[int]:
        while (offset := self._clients.group.committed_offset(partition)) is None:
            yield
        return offset

    def _view(self, reader: PartitionReader, logs: PartitionLogs) -> Steps[PartitionView]:
        bounds = self._clients.log_reader.bounds(logs)
        marker = yield from find_marker(reader, logs.user_state, bounds[logs.user_state])
        if marker is None:
            yield from self._require_own_neighbours(reader, logs.user_state)
        else:
            self._owner.require(marker, logs.user_state)
        return PartitionView(logs, bounds, marker)

    def _require_own_neighbours(self, reader: PartitionReader, partition: TopicPartition) -> Steps[None]:
        """Raise `StatesOfOthers` if another partition has a marker that is not of these rankers; one marker is enough.

        A partition without any may be new to users whose states are elsewhere.
        """
        numbers = (number for number in range(self._owner.partitions) if number != partition.partition)
        others = [TopicPartition(partition.topic, number) for number in numbers]
        bounds = self._clients.log_reader.bounds(others)
        for other in others:
            marker = yield from find_marker(reader, other, bounds[other])
            if marker is not None:
                return self._owner.require(marker, other)

    def _commit_offset(self, reader: PartitionReader, view: PartitionView) -> Steps[None]:
        """Give the group an offset where it has none: the remembered one, which is judged as if it had been committed.

        That of another topic is not committed for this one.
        """
        if view.saved is None:
            self._begin_new_partitions(view.logs.events.partition)
        else:
            offset = yield from self._remembered_offset(reader, view)
            damage = yield from find_damage(reader, view, offset)
            if damage is None:
                self._remember(view.logs.events.partition, offset)
            else:
                self._continue_with(damage, view.logs)
        yield

    def _begin_new_partitions(self, partition: int) -> None:
        """Commit first offsets for this partition, and at the same time for the others that certainly are new."""
        others = {task.partition: TopicPartition(self._topics.user_state, task.partition) for task in self._tasks}
        bounds = self._clients.log_reader.bounds(others.values())
        is_empty = {number for number, log in others.items() if bounds[log].start == bounds[log].end}
        self._clients.group.begin(
            number for number in is_empty | {partition} if self._clients.group.committed_offset(number) == NO_OFFSET
        )

    def _remembered_offset(self, reader: PartitionReader, view: PartitionView) -> Steps[int]:
        """The offset behind the last event that became a ranking, feedback, a dead letter or part of a saved state.

        What may follow are duplicates, which are recognised again. Rankings and dead letters from before the log was
        replaced cannot be told from those about this one, and do not count; feedback can.
        """
        logs, marker = view.logs, view.marker
        end = marker.offset
        for records in reader.read(logs.user_state, *view.bounds[logs.user_state][:2]):
            states = (record for record in records if record.key and record.value is not None)
            end = max([end, *(decode_state(record, marker.rebases).next_offset for record in states)])
            yield
        joined = yield from find_newest(reader, *view.feedback, _read_feedback_end)
        if marker.rebases:
            return max(end, joined or 0)
        yield from self._dead_letters.catch_up()
        ranked = yield from find_newest(reader, logs.rankings, view.bounds[logs.rankings], _read_ranking_end)
        return max(end, joined or 0, ranked or 0, self._dead_letters.end(logs.events.partition))

    def _remember(self, partition: int, offset: int) -> None:
        log.warning(
            "partition %d: the committed offset of group %s has expired or was deleted; it goes on at offset %d, "
            "behind the last event that it ranked",
            partition,
            self._group_name,
            offset,
        )
        self._clients.group.remember(partition, offset)

    def _wait(self, seconds: float) -> Steps[None]:
        deadline = self._clients.clock.monotonic() + seconds
        while self._clients.clock.monotonic() < deadline:
            yield

    def _continue_with(self, damage: Damage, logs: PartitionLogs) -> None:
        """Commit where ranking goes on, with a marker that tells how to read the states; or raise `EventsLost`."""
        if not self._continues:
            raise EventsLost(
                f"{damage.description}. Nothing is ranked until you decide: restore the topic, or set "
                f"on_lost_events=continue to rank from offset {damage.resume_at} of {logs.events.topic} on "
                "(docs/exactly-once.md, Lost events)"
            )
        partition = logs.events.partition
        record = OutboundRecord(logs.user_state.topic, STATE_MARKER_KEY, encode_binary(damage.marker), partition)
        self._clients.publish_executor.submit(
            self._clients.publisher.publish,
            [record],
            {logs.events: damage.resume_at},
            self._clients.group.group_metadata,
        ).result()
        log.warning(
            "%s. Ranking goes on at offset %d, because on_lost_events is continue", damage.description, damage.resume_at
        )
        self._metrics.events_lost.labels(str(partition), damage.reason).inc(damage.events)
        self._metrics.log_breaks.labels(str(partition), damage.reason).inc()


def find_damage(reader: PartitionReader, view: PartitionView, offset: int) -> Steps[Damage | None]:
    """What the logs no longer have of what a group with this offset needs, and how to go on without it."""
    held, events = view.held(offset), view.events
    agreed_end = None
    if not is_other_topic(held, events):
        agreed_end = yield from find_agreed_end(reader, LogPart(view.logs.events, events), view.feedback, offset)
    loss = find_loss(held, events, agreed_end)
    return _missing_slates(view, offset) if loss is None else _damage(loss, held, view)


def _damage(loss: LogLoss, held: HeldPosition, view: PartitionView) -> Damage:
    logs, bounds = view.logs, view.bounds
    what = f"{logs.events.topic}, partition {logs.events.partition} {describe(loss, held, view.events)}"
    rebase = Rebase(bounds[logs.user_state].end, loss.resume_at, bounds[logs.feedback].end)
    return Damage(loss.reason, what, loss.events, loss.resume_at, marker_after(loss, view.marker, view.events, rebase))


def _missing_slates(view: PartitionView, offset: int) -> Damage | None:
    """The rankings that the replay of events needs, if they are gone."""
    marker, source = view.marker, view.logs.rankings
    rankings = view.bounds[source]
    if marker.offset >= offset or rankings.start <= marker.rankings_offset <= rankings.end:
        return None
    what = (
        f"{source.topic}, partition {source.partition} holds offsets {rankings.start} up to {rankings.end}, and "
        f"the saved user states need those from {marker.rankings_offset} on: the last slates of users of the "
        f"newest {offset - marker.offset} events are lost, and their next feedback names none"
    )
    rankings_offset = min(max(marker.rankings_offset, rankings.start), rankings.end)
    return Damage("slates", what, 0, offset, replace(marker, rankings_offset=rankings_offset))


def marker_after(loss: LogLoss, marker: StateMarker, events: LogBounds, rebase: Rebase) -> StateMarker:
    """The marker with which ranking goes on at `loss.resume_at`, with the `rebase` where offsets mean other events."""
    if loss.reason == "trimmed":
        offset, epochs, rebases = max(marker.offset, events.start), marker.epochs, marker.rebases
    else:
        offset = events.start if loss.reason == "recreated" else min(marker.offset, loss.resume_at)
        epochs = [epoch for epoch in marker.epochs if epoch.offset < loss.resume_at and loss.reason == "truncated"]
        rebases = [*(earlier for earlier in marker.rebases if earlier.offset < rebase.offset), rebase]
    return replace(marker, offset=offset, epochs=epochs, rebases=rebases, events_topic_id=events.topic_id)


def _read_ranking_end(record: ConsumerRecord) -> int | None:
    with suppress(InvalidMessage):
        return messages.rankings.decode(record.value or b"").cause.offset + 1
    return None


def _read_feedback_end(record: ConsumerRecord) -> int | None:
    ranked = read_ranked_event(record)
    return None if ranked is None else ranked.offset + 1
