"""A partition's user states as they were saved, and where to follow the logs from."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import closing
from typing import NamedTuple

from kafka import TopicPartition

from anabranch.errors import AnabranchError
from anabranch.kafka.log_bounds import HeldPosition, LogBounds, is_other_topic
from anabranch.kafka.log_reader import LogReader
from anabranch.kafka.topics import Topics
from anabranch.messages import StateMarker
from anabranch.settings import Settings
from consumers.user_states.changelog import Changelog
from consumers.user_states.state_markers import NO_MARKER, find_marker
from consumers.user_states.state_owner import StateOwner

log = logging.getLogger(__name__)


class StatesOfAnotherLog(AnabranchError):
    """The saved states count other events than those that `events` has: a ranker has to decide how to go on."""


class RestoredPartition(NamedTuple):
    """Where a partition is followed from."""

    events: TopicPartition
    next_event: int
    """The saved states have every event before it."""
    states: TopicPartition
    next_state: int
    marker: StateMarker

    @property
    def encoded_from(self) -> int:
        """The first event that the release of the newest epoch ranked: an earlier one ranked those before."""
        return self.marker.epochs[-1].offset if self.marker.epochs else self.next_event


RestoreSteps = Generator[None, None, RestoredPartition]
"""A step at a time, so that other work gets its turn between two."""


class StateRestore:
    """Loads the saved states of partitions."""

    def __init__(self, settings: Settings, log_reader: LogReader, changelog: Changelog) -> None:
        self._topics = Topics(settings)
        self._owner = StateOwner.from_settings(settings)
        self._log_reader = log_reader
        self._changelog = changelog

    def steps(self, partition: int) -> RestoreSteps:
        """Load a partition. The end of `user-state` comes first: what is saved later is read when it is followed.

        Raises `StatesOfOthers` if the states are not of the rankers that the settings describe, and
        `StatesOfAnotherLog`.
        """
        events = TopicPartition(self._topics.events, partition)
        states = TopicPartition(self._topics.user_state, partition)
        bounds = self._log_reader.bounds([events, states])
        with closing(self._log_reader.partition_reader()) as reader:
            saved = yield from find_marker(reader, states, bounds[states])
            if saved is not None:
                self._owner.require(saved, states)
            marker = saved or NO_MARKER
            self._changelog.begin(partition, marker)
            for records in reader.read(states, bounds[states].start, bounds[states].end):
                self._changelog.load(partition, records)
                yield
        _require_log_of(marker, events, bounds[events])
        next_event = max(marker.offset, bounds[events].start)
        if next_event != marker.offset and saved is not None:
            log.warning(
                "%s, partition %d begins at offset %d, and saved states go up to %d: the events between are lost",
                *(events.topic, partition, next_event, marker.offset),
            )
        return RestoredPartition(events, next_event, states, bounds[states].end, marker)

    def require_same_log(self, partition: RestoredPartition, marker: StateMarker) -> None:
        """Raises `StatesOfAnotherLog` if a newer marker of a followed partition says that offsets mean other events
        since, and `StatesOfOthers` if its users are moved, or are others' now."""
        self._owner.require(marker, partition.states)
        if marker.rebases != partition.marker.rebases:
            raise StatesOfAnotherLog(f"{partition.events.topic}, partition {partition.events.partition} was replaced")


def _require_log_of(marker: StateMarker, events: TopicPartition, bounds: LogBounds) -> None:
    """Raises `StatesOfAnotherLog` if the log cannot be the one that the marker's states were made of."""
    where = f"{events.topic}, partition {events.partition}"
    if is_other_topic(HeldPosition(marker.offset, marker.offset, marker.events_topic_id), bounds):
        raise StatesOfAnotherLog(f"{where} is another topic than the one that saved states are about")
    if marker.offset > bounds.end:
        raise StatesOfAnotherLog(f"{where} ends at {bounds.end}, and saved states have events up to {marker.offset}")
