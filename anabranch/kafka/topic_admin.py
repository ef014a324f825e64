"""What an operator's command asks of topics and groups, and changes in them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from kafka import TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import KafkaError, UnknownTopicOrPartitionError

from anabranch.errors import BrokerFailed, BrokerUnavailable
from anabranch.kafka import clients
from anabranch.kafka.offsets import committed_by
from anabranch.kafka.records import offsets_and_metadata
from anabranch.kafka.topics import partition_counts
from anabranch.settings import Settings

VISIBLE_AFTER_S = 30
POLL_S = 0.1
EMPTY_STATES = ("Empty", "Dead")


class TopicAdmin:
    """An admin client, for what `anabranch topics` does. Its methods raise `KafkaError` of what the broker refuses."""

    def __init__(self, settings: Settings) -> None:
        """Raises `BrokerUnavailable`."""
        self._settings = settings
        self._client = clients.admin(settings)

    def close(self) -> None:
        """Close the client."""
        self._client.close()

    def partitions(self, names: Iterable[str]) -> dict[str, int]:
        """How many partitions each topic has, of those that exist."""
        return partition_counts(self._client, names)

    def add_partitions(self, names: Iterable[str], count: int) -> None:
        """Give each topic that has fewer partitions so many, and wait until they have leaders."""
        names = list(names)
        fewer = {name: count for name, actual in self.partitions(names).items() if actual < count}
        if fewer:
            self._client.create_partitions(fewer)
        partitions = [TopicPartition(name, number) for name in fewer for number in range(count)]
        deadline = time.monotonic() + VISIBLE_AFTER_S
        while not self._have_leaders(partitions):
            if time.monotonic() > deadline:
                raise BrokerUnavailable(
                    f"new partitions of {', '.join(fewer)} have no leader after {VISIBLE_AFTER_S} s"
                )
            time.sleep(POLL_S)

    def members(self, group: str) -> int:
        """How many processes are in a consumer group."""
        description = self._client.describe_groups([group]).get(group) or {}
        return len(description.get("members") or ())

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """The group's offset of each partition of the topic that has one."""
        return committed_by(self._client, group, topic)

    def beginnings(self, topic: str) -> dict[int, int]:
        """Where the log of each partition begins."""
        sources = [TopicPartition(topic, number) for number in range(self.partitions([topic])[topic])]
        offsets = self._client.list_partition_offsets(dict.fromkeys(sources, OffsetSpec.EARLIEST))
        return {source.partition: offset.offset for source, offset in offsets.items()}

    def commit_missing(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """Commit offsets of partitions for which the group, which must have no members, has none."""
        committed = self.committed(group, topic)
        missing = {
            TopicPartition(topic, number): offset for number, offset in offsets.items() if number not in committed
        }
        if not missing:
            return
        results = self._client.alter_group_offsets(group, offsets_and_metadata(missing))
        failed = [f"{source.partition}: {error.__name__}" for source, error in results.items() if error.errno]
        if failed:
            raise BrokerFailed(f"the offsets of group {group} cannot be set in partitions {', '.join(failed)}")

    def _have_leaders(self, partitions: Iterable[TopicPartition]) -> bool:
        try:
            self._client.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.LATEST))
        except UnknownTopicOrPartitionError:
            return False
        except KafkaError as error:
            if getattr(error, "retriable", False):
                return False
            raise
        return True
