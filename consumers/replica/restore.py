"""A partition's user states as they were saved, and where to follow the logs from."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import closing
from typing import NamedTuple

from kafka import TopicPartition

from anabranch.kafka.log_reader import LogReader
from anabranch.kafka.topics import Topics
from anabranch.messages import StateMarker
from anabranch.settings import Settings
from consumers.user_states.changelog import Changelog
from consumers.user_states.state_markers import NO_MARKER, find_marker
from consumers.user_states.state_owner import StateOwner

log = logging.getLogger(__name__)


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

        Raises `StatesOfOthers` if the states are not of the rankers that the settings describe.
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
        next_event = min(max(marker.offset, bounds[events].start), bounds[events].end)
        if next_event != marker.offset and saved is not None:
            log.warning(
                "%s, partition %d has offsets %d to %d, and saved states go up to %d: they are followed from %d on",
                *(events.topic, partition, bounds[events].start, bounds[events].end, marker.offset, next_event),
            )
        return RestoredPartition(events, next_event, states, bounds[states].end, marker)
