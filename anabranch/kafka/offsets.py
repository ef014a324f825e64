"""Offsets of topics and of the ranker group, by partition."""

from __future__ import annotations

from contextlib import closing

from kafka.admin import KafkaAdminClient

from anabranch.kafka import clients
from anabranch.kafka.log_bounds import LogBounds
from anabranch.kafka.topics import Topics
from anabranch.settings import Settings

Offsets = dict[int, int]
"""Partition → offset."""


def ends(settings: Settings, topic: str) -> Offsets:
    """The current end offset of every partition of a topic."""
    with closing(clients.reader(settings, [topic])) as consumer:
        end_offsets = consumer.end_offsets(list(consumer.assignment()))
    return {partition.partition: offset for partition, offset in end_offsets.items()}


def bounds(settings: Settings, topic: str) -> dict[int, LogBounds]:
    """The ends of the log of every partition of a topic."""
    with closing(clients.reader(settings, [topic])) as consumer:
        partitions = list(consumer.assignment())
        starts, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
    return {partition.partition: LogBounds(starts[partition], ends[partition]) for partition in partitions}


def from_time(settings: Settings, topic: str, ms: int) -> Offsets:
    """The offset of the first record at or after a time (UTC ms), for every partition; the end if there is none."""
    with closing(clients.reader(settings, [topic])) as consumer:
        partitions = list(consumer.assignment())
        first = consumer.offsets_for_times(dict.fromkeys(partitions, ms))
        end_offsets = consumer.end_offsets(partitions)
    return {
        partition.partition: end_offsets[partition] if first[partition] is None else first[partition].offset
        for partition in partitions
    }


def committed(settings: Settings) -> Offsets:
    """The committed offset of the ranker group for every partition of `events` that has one."""
    with closing(clients.admin(settings)) as admin:
        return committed_by(admin, settings.group("ranker"), Topics(settings).events)


def committed_by(admin: KafkaAdminClient, group: str, topic: str) -> Offsets:
    """A group's committed offset of every partition of a topic that has one."""
    offsets = admin.list_group_offsets({group: None})[group]
    return {
        partition.partition: committed_offset.offset
        for partition, committed_offset in offsets.items()
        if partition.topic == topic and committed_offset.offset >= 0
    }


def lag(settings: Settings) -> int:
    """Number of events that the rankers have not committed."""
    offsets = committed(settings)
    end_offsets = ends(settings, Topics(settings).events)
    return sum(end - offsets.get(partition, 0) for partition, end in end_offsets.items())
