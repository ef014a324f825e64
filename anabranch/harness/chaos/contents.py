"""Reads all topics of a chaos run back, once its rankers have stopped."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from kafka.consumer.fetcher import ConsumerRecord

from anabranch import messages
from anabranch.harness.environment.reconciliation import EventPosition, LoggedRanking
from anabranch.kafka import clients
from anabranch.kafka.offsets import Offsets
from anabranch.kafka.topics import Topics
from anabranch.messages import STATE_MARKER_KEY, Feedback, SavedState, StateMarker
from anabranch.settings import Settings
from consumers.runtime.dead_letter import StoredDeadLetter


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
    def read(cls, settings: Settings) -> TopicContents:
        """Read every topic to its end."""
        topics = Topics(settings)
        events: dict[int, list[ConsumerRecord]] = defaultdict(list)
        for record in clients.read_to_end(settings, [topics.events]):
            events[record.partition].append(record)
        rankings = [
            LoggedRanking(messages.rankings.decode(record.value), record.timestamp)
            for record in clients.read_to_end(settings, [topics.rankings])
        ]
        written = clients.read_to_end(settings, [topics.rankings], isolation_level="read_uncommitted")
        return cls(
            events,
            rankings,
            [messages.feedback.decode(record.value) for record in clients.read_to_end(settings, [topics.feedback])],
            _read_dead_letters(settings, topics),
            _read_saved_states(settings),
            sum(1 for _ in written) - len(rankings),
        )


def complete_up_to(settings: Settings) -> Offsets:
    """The offset up to which the saved states of each partition are complete."""
    return {partition: saved.marker.offset for partition, saved in _read_saved_states(settings).items()}


def _read_dead_letters(settings: Settings, topics: Topics) -> dict[EventPosition, list[StoredDeadLetter]]:
    letters: dict[EventPosition, list[StoredDeadLetter]] = defaultdict(list)
    for record in clients.read_to_end(settings, [topics.dead_letter]):
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
