"""Where logs end, and where the rankers are."""

from __future__ import annotations

from contextlib import closing

from anabranch.kafka import clients
from anabranch.kafka.topics import Topics
from anabranch.settings import Settings

Offsets = dict[int, int]
"""By partition."""


def ends(settings: Settings, topic: str) -> Offsets:
    """The end offset of every partition of a topic, as of now."""
    with closing(clients.reader(settings, [topic])) as consumer:
        return {one.partition: end for one, end in consumer.end_offsets(list(consumer.assignment())).items()}


def from_time(settings: Settings, topic: str, ms: int) -> Offsets:
    """The offset, in every partition of a topic, of the first message from a time on; its end where there is none."""
    with closing(clients.reader(settings, [topic])) as consumer:
        partitions = list(consumer.assignment())
        found, ends = consumer.offsets_for_times(dict.fromkeys(partitions, ms)), consumer.end_offsets(partitions)
    return {at.partition: ends[at] if found[at] is None else found[at].offset for at in partitions}


def committed(settings: Settings) -> Offsets:
    """The offset the rankers have committed of each partition that they ever took on."""
    topic, group = Topics(settings).events, settings.group("ranker")
    with closing(clients.admin(settings)) as admin:
        found = admin.list_group_offsets({group: None})[group]
    return {at.partition: one.offset for at, one in found.items() if at.topic == topic and one.offset >= 0}


def lag(settings: Settings) -> int:
    """Events the rankers have not committed yet."""
    done = committed(settings)
    return sum(end - done.get(partition, 0) for partition, end in ends(settings, Topics(settings).events).items())
