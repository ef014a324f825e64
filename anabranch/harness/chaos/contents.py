"""Reads all topics of a chaos run back, once its rankers have stopped."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import msgspec
from kafka.consumer.fetcher import ConsumerRecord

from anabranch import messages
from anabranch.harness.environment.reconciliation import EventPosition, LoggedRanking
from anabranch.kafka import clients
from anabranch.kafka.offsets import Offsets
from anabranch.kafka.topics import Topics
from anabranch.messages import STATE_MARKER_KEY, Cause, Feedback, SavedState, StateMarker
from anabranch.settings import Settings
from consumers.runtime.dead_letter import StoredDeadLetter

Positioned = TypeVar("Positioned", Cause, Feedback)


@dataclass(frozen=True)
class PartitionStates:
    """The newest saved state of each user of a partition, and the marker that says up to where they are complete."""

    states: Mapping[str, SavedState]
    marker: StateMarker


@dataclass(frozen=True)
class TopicContents:
    """The committed messages of a run."""

    events: Mapping[int, list[ConsumerRecord]]
    """By partition, in order of offset."""
    rankings: list[LoggedRanking]
    """In order of offset within each partition."""
    feedback: list[Feedback]
    dead_letters: Mapping[EventPosition, list[StoredDeadLetter]]
    """Dead letters of `events`, by the position of the original message."""
    saved_states: Mapping[int, PartitionStates]
    """By partition, for those that have a marker."""
    aborted_rankings: int
    """Rankings on the topic that belong to aborted transactions."""

    @classmethod
    def read(cls, settings: Settings, starts: Mapping[str, Offsets] | None = None) -> TopicContents:
        """Read every topic to its end; from the offsets of `starts`, by topic, where it has any.

        Saved states are always read as a whole.
        """
        topics = Topics(settings)

        def read(topic: str, **configs: str) -> Iterator[ConsumerRecord]:
            return clients.read_from(settings, topic, (starts or {}).get(topic, {}), **configs)

        events: dict[int, list[ConsumerRecord]] = defaultdict(list)
        for record in read(topics.events):
            events[record.partition].append(record)
        rankings = [
            LoggedRanking(messages.rankings.decode(record.value), record.timestamp) for record in read(topics.rankings)
        ]
        return cls(
            events,
            rankings,
            [messages.feedback.decode(record.value) for record in read(topics.feedback)],
            _read_dead_letters(topics, read(topics.dead_letter)),
            _read_saved_states(settings),
            sum(1 for _ in read(topics.rankings, isolation_level="read_uncommitted")) - len(rankings),
        )

    def followed_by(self, later: TopicContents, shift: Offsets) -> TopicContents:
        """These and the later messages as those of one run.

        `shift`, by partition, is added to the offsets of events in the later messages, so that no two events have the
        same although their topic was created again.
        """
        events = {partition: list(records) for partition, records in self.events.items()}
        for partition, records in later.events.items():
            moved = [record._replace(offset=record.offset + shift.get(partition, 0)) for record in records]
            events[partition] = [*events.get(partition, ()), *moved]
        dead_letters = dict(self.dead_letters)
        for (partition, offset), letters in later.dead_letters.items():
            dead_letters[partition, offset + shift.get(partition, 0)] = letters
        return TopicContents(
            events,
            [*self.rankings, *(_shifted_ranking(ranking, shift) for ranking in later.rankings)],
            [*self.feedback, *(_shifted(feedback, shift) for feedback in later.feedback)],
            dead_letters,
            {
                partition: replace(saved, marker=_shifted_marker(saved.marker, shift.get(partition, 0)))
                for partition, saved in later.saved_states.items()
            },
            self.aborted_rankings + later.aborted_rankings,
        )


def complete_up_to(settings: Settings) -> Offsets:
    """The offset up to which the saved states of each partition are complete."""
    return {partition: saved.marker.offset for partition, saved in _read_saved_states(settings).items()}


def _shifted_ranking(ranking: LoggedRanking, shift: Offsets) -> LoggedRanking:
    cause = _shifted(ranking.ranking.cause, shift)
    return LoggedRanking(msgspec.structs.replace(ranking.ranking, cause=cause), ranking.appended_ms)


def _shifted(position: Positioned, shift: Offsets) -> Positioned:
    return msgspec.structs.replace(position, offset=position.offset + shift.get(position.partition, 0))


def _shifted_marker(marker: StateMarker, shift: int) -> StateMarker:
    return msgspec.structs.replace(marker, offset=marker.offset + shift)


def _read_dead_letters(
    topics: Topics, records: Iterable[ConsumerRecord]
) -> dict[EventPosition, list[StoredDeadLetter]]:
    letters: dict[EventPosition, list[StoredDeadLetter]] = defaultdict(list)
    for record in records:
        letter = StoredDeadLetter.from_record(record)
        if letter.topic == topics.events:
            letters[letter.partition, letter.offset].append(letter)
    return letters


def _read_saved_states(settings: Settings) -> dict[int, PartitionStates]:
    newest: dict[int, dict[bytes, bytes]] = defaultdict(dict)
    for record in clients.read_to_end(settings, [Topics(settings).user_state]):
        newest[record.partition][record.key] = record.value
    markers = {partition: values.pop(STATE_MARKER_KEY, None) for partition, values in newest.items()}
    return {
        partition: PartitionStates(
            {key.decode(): messages.user_states.decode(value) for key, value in newest[partition].items()},
            messages.state_markers.decode(marker),
        )
        for partition, marker in markers.items()
        if marker is not None
    }
