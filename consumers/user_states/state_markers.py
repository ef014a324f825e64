"""The markers of the changelog: how far its states go, and which release ranked their events."""

from __future__ import annotations

from kafka import TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from anabranch.kafka.log_bounds import LogBounds
from anabranch.kafka.log_reader import PartitionReader
from anabranch.kafka.log_tail import Steps, find_newest
from anabranch.messages import STATE_MARKER_KEY, StateMarker
from consumers.user_states.changelog import decode_marker

NO_MARKER = StateMarker(offset=0, rankings_offset=0, epochs=[])


def find_marker(reader: PartitionReader, source: TopicPartition, bounds: LogBounds) -> Steps[StateMarker | None]:
    """The newest marker of a partition of `user-state`; None: no state has been saved. Raises `StateUnreadable`."""
    marker = yield from find_newest(reader, source, bounds, _read_marker)
    return marker


def _read_marker(record: ConsumerRecord) -> StateMarker | None:
    return decode_marker(record) if (record.key or STATE_MARKER_KEY) == STATE_MARKER_KEY else None
