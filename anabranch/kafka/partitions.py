"""Partitions of topics: where a key belongs, and whether somebody added partitions while a process reads."""

from __future__ import annotations

from collections.abc import Collection

from kafka import KafkaConsumer
from kafka.partitioner.default import murmur2

from anabranch.errors import TopicsDiffer

REFRESH_MS = 30_000
"""How often a process that reads topics for long asks how many partitions they have."""


def partition_of(key: bytes, partitions: int) -> int:
    """Where Kafka's default partitioner puts a key."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


def known_partitions(consumer: KafkaConsumer, topic: str) -> int:
    """How many partitions a topic has, by the newest metadata that the consumer has; 0 if it has none."""
    return len(consumer.partitions_for_topic(topic))


def refuse_added_partitions(consumer: KafkaConsumer, topics: Collection[str]) -> None:
    """Raise `TopicsDiffer` if topics, whose partitions were all assigned to the consumer, have more by now."""
    assigned = [partition.topic for partition in consumer.assignment()]
    added = [
        added_to_table(topic, actual, assigned.count(topic))
        for topic in topics
        if (actual := known_partitions(consumer, topic)) > assigned.count(topic) > 0
    ]
    if added:
        raise TopicsDiffer(added)


def added_to_users(topic: str, actual: int, expected: int) -> str:
    """What to do where a topic with users as keys has more partitions than it should."""
    return (
        f"{topic} has {actual} partitions, not {expected}, so users may be in other partitions than their states. Stop "
        f"the producers of events and the rankers, run `anabranch rank --drain`, then `anabranch topics repartition "
        f"--partitions {actual}`, and set partitions={actual}"
    )


def added_to_table(topic: str, actual: int, expected: int) -> str:
    """What to do where a topic that is read as a table has more partitions than it should."""
    return (
        f"{topic} has {actual} partitions, not {expected}. If it was created with {actual}, set item_partitions="
        f"{actual}. If partitions were added, old records stay where their keys no longer belong: delete the topic, "
        "run `anabranch topics provision`, and publish its content again"
    )
